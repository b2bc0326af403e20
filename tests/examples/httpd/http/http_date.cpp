#include "examples/httpd/http/http_date.hpp"

#include "tests/support/catch.hpp"

#include <ctime>
#include <string>

using namespace httpd;

namespace {

constexpr std::int64_t november_1994 = 784'111'777;  // RFC 9110 5.6.7's example
constexpr std::int64_t now = 1'800'000'000;          // 15 January 2027

std::string written(std::int64_t unix_seconds) {
    std::array<char, http_date_bytes> text{};
    write_http_date(unix_seconds, text);
    return {text.data(), text.size()};
}

// The form that `strftime` calls `format`.
std::string in_form(std::int64_t unix_seconds, const char* format) {
    const auto seconds = static_cast<std::time_t>(unix_seconds);
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    std::array<char, 64> text{};
    return {text.data(), std::strftime(text.data(), text.size(), format, &parts)};
}

}  // namespace

TEST_CASE("a date is written as an IMF-fixdate", "[httpd][http_date]") {
    CHECK(written(november_1994) == "Sun, 06 Nov 1994 08:49:37 GMT");
    CHECK(written(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
    CHECK(written(951'782'400) == "Tue, 29 Feb 2000 00:00:00 GMT");
    CHECK(written(-1) == "Wed, 31 Dec 1969 23:59:59 GMT");
    CHECK(written(253'402'300'799) == "Fri, 31 Dec 9999 23:59:59 GMT");
    CHECK(written(std::numeric_limits<std::int64_t>::max()) == "Fri, 31 Dec 9999 23:59:59 GMT");
    CHECK(written(std::numeric_limits<std::int64_t>::min()) == "Sat, 01 Jan 0000 00:00:00 GMT");
}

TEST_CASE("the three forms are read", "[httpd][http_date]") {
    CHECK(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT", now) == november_1994);
    CHECK(parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT", now) == november_1994);
    CHECK(parse_http_date("Sun Nov  6 08:49:37 1994", now) == november_1994);
    CHECK(parse_http_date("Wed Nov 16 08:49:37 1994", now) == november_1994 + 10 * 86400);
    CHECK(parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT", now) == 1'483'228'800);
}

TEST_CASE("dates all over the years agree with strftime in every form", "[httpd][http_date]") {
    for (std::int64_t when = 0; when < 4'000'000'000; when += 86400 * 13 + 12'345) {
        const std::string fixed = in_form(when, "%a, %d %b %Y %H:%M:%S GMT");
        if (written(when) != fixed || parse_http_date(fixed, now) != when ||
            parse_http_date(in_form(when, "%A, %d-%b-%y %H:%M:%S GMT"), when) != when ||
            parse_http_date(in_form(when, "%a %b %e %H:%M:%S %Y"), now) != when) {
            CAPTURE(when, fixed);
            FAIL_CHECK("a form differs");
        }
    }
}

TEST_CASE("two digits of a year are no more than 50 years ahead", "[httpd][http_date]") {
    // In 2027: 77 is 2077, 78 is 1978.
    CHECK(parse_http_date("Friday, 01-Jan-77 00:00:00 GMT", now) == 3'376'684'800);
    CHECK(parse_http_date("Sunday, 01-Jan-78 00:00:00 GMT", now) == 252'460'800);
    CHECK(parse_http_date("Saturday, 01-Jan-00 00:00:00 GMT", now) == 946'684'800);
}

TEST_CASE("other text is not read as a date", "[httpd][http_date]") {
    for (const char* text : {"",
                             "0",
                             "Sun",
                             "Sun,",
                             "Sun, 06 Nov 1994 08:49:37",
                             "Sun, 06 Nov 1994 08:49:37 UTC",
                             "Sun, 06 Nov 1994 08:49:37 GMT ",
                             " Sun, 06 Nov 1994 08:49:37 GMT",
                             "Sun, 6 Nov 1994 08:49:37 GMT",
                             "sun, 06 Nov 1994 08:49:37 GMT",
                             "Sun, 06 nov 1994 08:49:37 GMT",
                             "Sun, 06 Nov 94 08:49:37 GMT",
                             "Sun, 31 Feb 1994 08:49:37 GMT",
                             "Sun, 00 Nov 1994 08:49:37 GMT",
                             "Sun, 06 Nov 1994 24:00:00 GMT",
                             "Sun, 06 Nov 1994 08:60:37 GMT",
                             "Sun, 06 Nov 1994 08:49:61 GMT",
                             "Sun, 06 Nov 1994 08:49 GMT",
                             "Sun, 29 Feb 2023 00:00:00 GMT",
                             "Sunday, 06-Nov-1994 08:49:37 GMT",
                             "Sunday, 06 Nov 94 08:49:37 GMT",
                             "Sunda, 06-Nov-94 08:49:37 GMT",
                             "Sun Nov 06 08:49:37 1994 GMT",
                             "Sun Nov 6 08:49:37 1994",
                             "Sun, +6 Nov 1994 08:49:37 GMT",
                             "1994-11-06T08:49:37Z",
                             "Sun, 06 Nov 1994 08:49:-7 GMT"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_http_date(text, now));
    }
}

TEST_CASE("a cached date follows the seconds", "[httpd][http_date]") {
    http_date_cache cache;
    CHECK(cache.at(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
    CHECK(cache.at(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
    CHECK(cache.at(1) == "Thu, 01 Jan 1970 00:00:01 GMT");
    CHECK(cache.at(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
}
