// body_reader.cpp: a body ends at the same byte however it is split, and where a second, slow
// reader of ours says.
#include "examples/httpd/http/body_reader.hpp"

#include <string>

#include "examples/httpd/http/request_parser.hpp"
#include "fuzz.hpp"

namespace {

using namespace httpd;
using fuzz::check;

struct outcome {
    body_state state;
    std::size_t taken;
    std::uint64_t data_bytes;
    bool operator==(const outcome&) const = default;
};

outcome read(const request_head& head, std::uint64_t limit, std::string_view body,
             std::size_t first, std::size_t each) {
    body_reader reader(head, limit);
    std::size_t taken = 0;
    std::size_t piece = first;
    while (reader.state() == body_state::incomplete && taken < body.size()) {
        const fuzz::exact_copy part(body.substr(taken, piece));
        taken += reader.read(part.text());
        piece = each;
    }
    return {reader.state(), taken, reader.data_bytes()};
}

// The end of a whole chunked body by the grammar of RFC 9112 7.1; npos when it is none, or not yet.
std::size_t end_of_chunked(std::string_view body) {
    const auto line_at = [body](std::size_t index) {
        const std::size_t end = body.find("\r\n", index);
        return end == body.npos ? end : end - index;
    };
    std::size_t index = 0;
    while (true) {
        const std::size_t line_bytes = line_at(index);
        if (line_bytes == body.npos) return body.npos;
        const std::string line(body.substr(index, line_bytes));
        index += line_bytes + 2;
        const std::string digits = line.substr(0, line.find(';'));
        if (digits.empty() || digits.find_first_not_of("0123456789abcdefABCDEF") != digits.npos ||
            digits.size() > 15) {
            return body.npos;
        }
        const std::size_t chunk_bytes = std::stoull(digits, nullptr, 16);
        if (chunk_bytes == 0) break;
        if (body.size() < index || body.size() - index < chunk_bytes + 2) return body.npos;
        index += chunk_bytes;
        if (body.substr(index, 2) != "\r\n") return body.npos;
        index += 2;
    }
    while (true) {  // the trailer
        const std::size_t line_bytes = line_at(index);
        if (line_bytes == body.npos) return body.npos;
        index += line_bytes + 2;
        if (line_bytes == 0) return index;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    const bool chunked = data[0] % 8 != 0;
    const std::uint64_t limit = data[1] < 128 ? 100'000 : data[1] - 128U;
    const std::string head_text = "POST / HTTP/1.1\r\nHost: a\r\n" +
                                  (chunked ? std::string("Transfer-Encoding: chunked")
                                           : "Content-Length: " + std::to_string(data[0])) +
                                  "\r\n\r\n";
    request_parser parser;
    parser.parse(head_text);
    check(parser.state() == parse_state::complete, "the head is one");

    const std::string_view body = fuzz::text_of(data + 2, size - 2);
    const outcome whole = read(parser.head(), limit, body, size, size);
    check(read(parser.head(), limit, body, 1 + fuzz::pick(body, size), size) == whole, "in two");
    check(read(parser.head(), limit, body, 1, 1) == whole, "bytewise");
    check(whole.taken <= limit && whole.data_bytes <= whole.taken, "within the limit");
    check(whole.state != body_state::incomplete || whole.taken == body.size(), "all was taken");
    if (whole.state == body_state::complete && chunked) {
        check(end_of_chunked(body) == whole.taken, "the second reader agrees");
    }
    return 0;
}
