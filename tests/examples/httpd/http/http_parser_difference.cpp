// http_parser_difference.cpp: the differences between httpd's parser and Debian's http-parser.
//
// Both read the same heads: those of a table, and many that are made of them by chance, the same
// each time. Where both take a head they must see the same in it. Where one refuses, the reason
// must be one of those listed here; docs/design/0010-http-parser.md explains each.
#include <cstdio>

#if __has_include(<http_parser.h>)
#include <http_parser.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "examples/httpd/http/characters.hpp"
#include "examples/httpd/http/request_parser.hpp"

namespace {

using namespace httpd;

// The properties of a head that both report.
struct reading {
    std::string method;
    std::string target;
    unsigned minor_version = 0;
    bool keep_alive = false;
    bool chunked = false;
    std::optional<std::uint64_t> content_length;
    std::size_t size = 0;

    bool operator==(const reading&) const = default;
};

struct their_outcome {
    http_errno error = HPE_OK;
    bool complete = false;
    reading seen;
};

their_outcome read_theirs(const std::string& text) {
    struct collector {
        std::string target;
        bool complete = false;
    } collected;
    http_parser_settings settings;
    http_parser_settings_init(&settings);
    settings.on_url = [](http_parser* parser, const char* part, std::size_t size) {
        static_cast<collector*>(parser->data)->target.append(part, size);
        return 0;
    };
    settings.on_headers_complete = [](http_parser* parser) {
        static_cast<collector*>(parser->data)->complete = true;
        http_parser_pause(parser, 1);  // what follows is not of the head
        return 0;
    };
    http_parser parser;
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = &collected;
    const std::size_t size = http_parser_execute(&parser, &settings, text.data(), text.size());

    their_outcome outcome;
    outcome.complete = collected.complete;
    if (!outcome.complete) {
        outcome.error = HTTP_PARSER_ERRNO(&parser);
        return outcome;
    }
    outcome.seen.method = http_method_str(static_cast<http_method>(parser.method));
    outcome.seen.target = collected.target;
    outcome.seen.minor_version = parser.http_minor == 0 ? 0 : 1;
    outcome.seen.keep_alive = http_should_keep_alive(&parser) != 0;
    outcome.seen.chunked = (parser.flags & F_CHUNKED) != 0;
    if ((parser.flags & F_CONTENTLENGTH) != 0) outcome.seen.content_length = parser.content_length;
    outcome.seen.size = size + 1;  // it pauses at the last byte
    return outcome;
}

reading reading_of(const request_head& head) {
    reading seen;
    seen.method = head.method_name();
    seen.target = head.target();
    seen.minor_version = head.minor_version();
    seen.keep_alive = head.keep_alive();
    seen.chunked = head.chunked();
    seen.content_length = head.content_length();
    seen.size = head.size();
    return seen;
}

constexpr const char* seeds[] = {
    "GET /index.html?a=b HTTP/1.1\r\nHost: 127.0.0.1:80\r\nUser-Agent: curl\r\nAccept: */*\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\n12345",
    "GET http://example.com:80/a?b HTTP/1.1\r\nHost: x\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: x, keep-alive\r\n\r\n",
    "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    "\r\nHEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "DELETE /a HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 0\r\nX: \"y\", z\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
};

constexpr std::string_view scraps[] = {
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    "\r\n ",
    ",",
    ";",
    "/",
    "?",
    "#",
    "*",
    "%2e",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/2.0",
    "HTTP/0.9",
    "http://",
    "GET ",
    "BREW ",
    "Host: b\r\n",
    "Host:\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 6\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: 99999999999999999999\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: chunked, gzip\r\n",
    "Transfer-Encoding : chunked\r\n",
    "transfer-encoding:chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Connection: close, keep-alive\r\n",
    "Connection: upgrade\r\n",
    "X: \x80\xff\r\n",
    "X\r\n",
    ": x\r\n",
    "X : y\r\n",
    "\"",
    "@",
    "[",
    "]",
    "\x7f",
    "\x01",
    "\xc3\xa4",
    "{",
    "|",
    "^",
    "`",
};

using random_engine = std::mt19937;

std::size_t below(random_engine& random, std::size_t bound) {
    return bound == 0 ? 0 : random() % bound;
}

std::string changed(random_engine& random) {
    std::string text = seeds[below(random, std::size(seeds))];
    const std::size_t changes = 1 + below(random, 3);
    for (std::size_t change = 0; change < changes; ++change) {
        const std::size_t index = below(random, text.size() + 1);
        switch (below(random, 6)) {
            case 0: text.insert(index, 1, static_cast<char>(random())); break;
            case 1: text.erase(index, 1 + below(random, 3)); break;
            case 2:
                if (index < text.size()) text[index] = static_cast<char>(random());
                break;
            case 3: {  // where a line begins
                const std::size_t line = text.find("\r\n", index);
                text.insert(line == text.npos ? index : line + 2,
                            scraps[below(random, std::size(scraps))]);
                break;
            }
            default: text.insert(index, scraps[below(random, std::size(scraps))]); break;
        }
    }
    return text;
}

std::string visible(std::string_view text) {
    std::string shown;
    for (const char byte : text) {
        char escaped[8];
        const auto value = static_cast<unsigned char>(byte);
        if (value >= 0x20 && value < 0x7f) {
            shown += byte;
        } else {
            std::snprintf(escaped, sizeof escaped, "\\x%02x", static_cast<unsigned>(value));
            shown += escaped;
        }
    }
    return shown;
}

// Heads that httpd refuses and http-parser accepts, or waits on: all errors but that of a head that
// is too large, which is not among these heads.
constexpr parse_error ours_is_stricter[] = {
    parse_error::control_character,    parse_error::bare_line_feed,
    parse_error::bare_carriage_return, parse_error::bad_request_line,
    parse_error::bad_method,           parse_error::bad_target,
    parse_error::bad_version,          parse_error::version_not_supported,
    parse_error::folded_line,          parse_error::bad_field_line,
    parse_error::host_empty,           parse_error::host_missing,
    parse_error::host_repeated,        parse_error::host_invalid,
    parse_error::length_invalid,       parse_error::length_repeated,
    parse_error::length_and_coding,    parse_error::coding_in_version_1_0,
    parse_error::coding_invalid,       parse_error::coding_not_chunked,
    parse_error::coding_unknown,
};

// Heads that http-parser refuses and httpd accepts.
constexpr http_errno theirs_is_stricter[] = {
    HPE_INVALID_METHOD,             // a token that is no method it knows: for us, 501 by the server
    HPE_UNEXPECTED_CONTENT_LENGTH,  // it takes "Transfer-Encoding*" for Transfer-Encoding
    HPE_INVALID_CONTENT_LENGTH,     // it does not skip a tab behind the number
};

// Whether a field's name continues after one that http-parser knows, as in "Connection*": it takes
// such a field for the one that it knows.
bool has_longer_name(std::string text) {
    std::ranges::transform(text, text.begin(), lower_case);
    for (const std::string_view name : {"transfer-encoding", "content-length", "connection"}) {
        for (auto index = text.find(name); index != text.npos; index = text.find(name, index + 1)) {
            const std::size_t end = index + name.size();
            if (end < text.size() && is(text[end], token_character)) return true;
        }
    }
    return false;
}

// Heads that both accept and read differently.
bool is_known_difference(const reading& ours, const reading& theirs, const std::string& text) {
    reading same = theirs;
    // It does not skip a tab behind a value, nor an empty member before one.
    const bool tab = text.find('\t') != text.npos;
    const bool comma = text.find(',') != text.npos;
    const bool longer = has_longer_name(text);
    if (tab || longer) same.chunked = ours.chunked;
    if (tab || comma || longer) same.keep_alive = ours.keep_alive;
    // In HTTP/1.0 it lets keep-alive win over close.
    if (ours.minor_version == 0 && text.find("close") != text.npos) same.keep_alive = false;
    return ours == same;
}

struct tally {
    std::size_t count = 0;
    std::string example;
};

class comparison {
public:
    void compare(const std::string& text) {
        ++inputs_;
        request_parser parser;
        parser.parse(text);
        const their_outcome theirs = read_theirs(text);

        if (parser.state() == parse_state::complete && theirs.complete) {
            ++both_;
            const reading ours = reading_of(parser.head());
            if (!(ours == theirs.seen)) {
                add(std::string("both take it: ") + what_differs(ours, theirs.seen), text,
                    is_known_difference(ours, theirs.seen, text));
            }
        } else if (parser.state() == parse_state::refused && theirs.error == HPE_OK) {
            const bool listed = std::ranges::count(ours_is_stricter, parser.error()) != 0;
            add("refused here: " + std::string(text_of(parser.error())), text, listed);
        } else if (theirs.error != HPE_OK && parser.state() == parse_state::complete) {
            const bool listed = std::ranges::count(theirs_is_stricter, theirs.error) != 0;
            add("refused there: " + std::string(http_errno_name(theirs.error)), text, listed);
        } else if (theirs.error != HPE_OK && parser.state() == parse_state::incomplete) {
            // We judge a line when its end is here.
            add("refused there before the line's end", text, true);
        } else if (parser.state() != parse_state::refused &&
                   (parser.state() == parse_state::complete) != theirs.complete) {
            add("one waits for more", text, false);
        } else if (parser.state() == parse_state::refused) {
            ++neither_;
        }
    }

    bool report() const {
        std::printf("%zu heads, %zu taken by both, %zu refused by both\n", inputs_, both_,
                    neither_);
        bool good = true;
        for (const auto& [what, seen] : tallies_) {
            std::printf("%8zu  %s, as: %s\n", seen.count, what.c_str(),
                        visible(seen.example).c_str());
            if (what.starts_with("NOT LISTED")) good = false;
        }
        return good;
    }

private:
    static std::string what_differs(const reading& ours, const reading& theirs) {
        if (ours.method != theirs.method) return "method";
        if (ours.target != theirs.target) return "target";
        if (ours.minor_version != theirs.minor_version) return "version";
        if (ours.keep_alive != theirs.keep_alive) return "keep-alive";
        if (ours.chunked != theirs.chunked) return "chunked";
        if (ours.content_length != theirs.content_length) return "length";
        return "size";
    }

    void add(const std::string& what, const std::string& text, bool listed) {
        tally& entry = tallies_[(listed ? "" : "NOT LISTED: ") + what];
        ++entry.count;
        if (entry.example.empty() || text.size() < entry.example.size()) entry.example = text;
    }

    std::map<std::string, tally> tallies_;
    std::size_t inputs_ = 0;
    std::size_t both_ = 0;
    std::size_t neither_ = 0;
};

}  // namespace

int main(int count, char** arguments) {
    const std::size_t inputs = count > 1 ? std::strtoul(arguments[1], nullptr, 10) : 500'000;
    comparison all;
    for (const char* seed : seeds) all.compare(seed);
    random_engine random(1);  // NOLINT: the same heads each time
    for (std::size_t input = 0; input < inputs; ++input) all.compare(changed(random));
    return all.report() ? EXIT_SUCCESS : EXIT_FAILURE;
}

#else

int main() {
    std::puts("skipped: http_parser.h is not here; on Debian it is in libhttp-parser-dev");
    return 77;
}

#endif
