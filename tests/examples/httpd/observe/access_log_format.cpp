#include "examples/httpd/observe/access_log_format.hpp"

#include "tests/support/catch.hpp"

#include <algorithm>
#include <string>

using namespace httpd;

namespace {

constexpr access_record november{.client = "192.0.2.7",
                                 .unix_second = 784'111'777,
                                 .request_line = "GET /a HTTP/1.1",
                                 .status = 200,
                                 .body_bytes = 1234,
                                 .duration = std::chrono::microseconds(56),
                                 .referer = "http://example.com/",
                                 .user_agent = "curl/8"};

std::string line_of(access_log_format format, const access_record& record) {
    access_log_formatter formatter(format);
    std::array<char, access_line_bytes_max> out{};
    return std::string(formatter.line(record, out));
}

}  // namespace

TEST_CASE("a request is one line in each format", "[httpd][access_log_format]") {
    CHECK(line_of(access_log_format::common, november) ==
          "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a HTTP/1.1\" 200 1234\n");
    CHECK(line_of(access_log_format::combined, november) ==
          "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a HTTP/1.1\" 200 1234 "
          "\"http://example.com/\" \"curl/8\"\n");
    CHECK(line_of(access_log_format::json, november) ==
          "{\"time\":\"1994-11-06T08:49:37Z\",\"client\":\"192.0.2.7\","
          "\"request\":\"GET /a HTTP/1.1\",\"status\":200,\"bytes\":1234,\"duration_us\":56,"
          "\"referer\":\"http://example.com/\",\"user_agent\":\"curl/8\"}\n");
}

TEST_CASE("an unknown value is a hyphen, or empty", "[httpd][access_log_format]") {
    const access_record nothing{.unix_second = 0, .status = 400};
    CHECK(line_of(access_log_format::combined, nothing) ==
          "- - - [01/Jan/1970:00:00:00 +0000] \"-\" 400 - \"-\" \"-\"\n");
    CHECK(line_of(access_log_format::json, nothing) ==
          "{\"time\":\"1970-01-01T00:00:00Z\",\"client\":\"\",\"request\":\"\",\"status\":400,"
          "\"bytes\":0,\"duration_us\":0,\"referer\":\"\",\"user_agent\":\"\"}\n");
}

TEST_CASE("a client cannot write lines of its own", "[httpd][access_log_format]") {
    access_record record = november;
    record.request_line = "GET /\" 200 1\n\r\t\\ \x1b[2J HTTP/1.1";
    record.referer = std::string_view("\0\x7f\xff", 3);
    record.user_agent = "\",\"admin\":\"yes";

    CHECK(line_of(access_log_format::combined, record) ==
          "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] "
          "\"GET /\\x22 200 1\\x0a\\x0d\\x09\\x5c \\x1b[2J HTTP/1.1\" 200 1234 "
          "\"\\x00\\x7f\\xff\" \"\\x22,\\x22admin\\x22:\\x22yes\"\n");
    CHECK_THAT(line_of(access_log_format::json, record),
               ContainsSubstring("\"request\":\"GET /\\u0022 200 1\\u000a\\u000d\\u0009\\u005c "
                                 "\\u001b[2J HTTP/1.1\"") &&
                   ContainsSubstring("\"referer\":\"\\u0000\\u007f\\u00ff\"") &&
                   ContainsSubstring("\"\\u0022,\\u0022admin\\u0022:\\u0022yes\"}\n"));
}

TEST_CASE("every byte is a safe one in the log", "[httpd][access_log_format]") {
    std::string all;
    for (unsigned value = 0; value < 256; ++value) all += static_cast<char>(value);
    access_record record = november;
    record.client = record.request_line = record.referer = record.user_agent = all;
    for (const auto format :
         {access_log_format::common, access_log_format::combined, access_log_format::json}) {
        const std::string line = line_of(format, record);
        CHECK(std::count(line.begin(), line.end(), '\n') == 1);
        CHECK(std::all_of(line.begin(), line.end() - 1,
                          [](char byte) { return byte >= 0x20 && byte < 0x7f; }));
        const auto quotes = std::count(line.begin(), line.end(), '"');
        CHECK(quotes == (format == access_log_format::common     ? 2
                         : format == access_log_format::combined ? 6
                                                                 : 26));
    }
}

TEST_CASE("texts that are too long are cut, and the line is whole", "[httpd][access_log_format]") {
    const std::string plain(10'000, 'x');
    const std::string escaped(10'000, '"');
    for (const std::string& text : {plain, escaped}) {
        access_record record = november;
        record.client = record.request_line = record.referer = record.user_agent = text;
        record.body_bytes = ~0ULL;
        record.status = ~0U;
        record.duration = std::chrono::nanoseconds::max();
        for (const auto format :
             {access_log_format::common, access_log_format::combined, access_log_format::json}) {
            const std::string line = line_of(format, record);
            CHECK(line.size() <= access_line_bytes_max);
            CHECK(line.size() > 1000);
            CHECK(line.ends_with(format == access_log_format::json     ? "\"}\n"
                                 : format == access_log_format::common ? "\" 4294967295 "
                                                                         "18446744073709551615\n"
                                                                       : "\"\n"));
        }
    }
}

TEST_CASE("the time follows the seconds", "[httpd][access_log_format]") {
    access_log_formatter formatter(access_log_format::common);
    std::array<char, access_line_bytes_max> out{};
    access_record record = november;
    const std::string first(formatter.line(record, out));
    CHECK(formatter.line(record, out) == first);
    ++record.unix_second;
    CHECK_THAT(std::string(formatter.line(record, out)),
               ContainsSubstring("[06/Nov/1994:08:49:38 +0000]"));
}

TEST_CASE("a format has a name", "[httpd][access_log_format]") {
    CHECK(access_log_format_named("common") == access_log_format::common);
    CHECK(access_log_format_named("combined") == access_log_format::combined);
    CHECK(access_log_format_named("json") == access_log_format::json);
    CHECK_FALSE(access_log_format_named("JSON"));
    CHECK_FALSE(access_log_format_named(""));
}
