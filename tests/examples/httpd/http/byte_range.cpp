#include "examples/httpd/http/byte_range.hpp"

#include "tests/support/catch.hpp"

#include <ostream>
#include <random>
#include <string>
#include <vector>

using namespace httpd;

namespace httpd {

std::ostream& operator<<(std::ostream& out, const byte_range& range) {
    return out << range.first << '+' << range.count;
}

}  // namespace httpd

namespace {

std::vector<byte_range> ranges_of(std::string_view value, std::uint64_t file_bytes) {
    const byte_ranges read(value, file_bytes);
    return {read.ranges().begin(), read.ranges().end()};
}

range_outcome outcome_of(std::string_view value, std::uint64_t file_bytes = 10'000) {
    const byte_ranges read(value, file_bytes);
    CHECK(read.ranges().empty() == (read.outcome() != range_outcome::partial));
    return read.outcome();
}

using ranges = std::vector<byte_range>;

}  // namespace

TEST_CASE("one range is read as RFC 9110 14.1.2 says", "[httpd][byte_range]") {
    CHECK(ranges_of("bytes=0-499", 10'000) == ranges{{0, 500}});
    CHECK(ranges_of("bytes=500-999", 10'000) == ranges{{500, 500}});
    CHECK(ranges_of("bytes=-500", 10'000) == ranges{{9500, 500}});
    CHECK(ranges_of("bytes=9500-", 10'000) == ranges{{9500, 500}});
    CHECK(ranges_of("bytes=0-0", 10'000) == ranges{{0, 1}});
    CHECK(ranges_of("bytes=-1", 10'000) == ranges{{9999, 1}});
    CHECK(ranges_of("bytes=0-", 10'000) == ranges{{0, 10'000}});
    CHECK(ranges_of("bytes=9999-20000", 10'000) == ranges{{9999, 1}});
    CHECK(ranges_of("bytes=-20000", 10'000) == ranges{{0, 10'000}});
    CHECK(ranges_of("Bytes=1-2", 10'000) == ranges{{1, 2}});
    CHECK(ranges_of("bytes= 1-2 ", 10'000) == ranges{{1, 2}});
    CHECK(ranges_of("bytes=001-0002", 10'000) == ranges{{1, 2}});
}

TEST_CASE("positions beyond 64 bits are beyond the file", "[httpd][byte_range]") {
    CHECK(ranges_of("bytes=1-99999999999999999999999", 10) == ranges{{1, 9}});
    CHECK(ranges_of("bytes=-99999999999999999999999", 10) == ranges{{0, 10}});
    CHECK(outcome_of("bytes=99999999999999999999999-") == range_outcome::unsatisfiable);
    const std::uint64_t most = 9'223'372'036'854'775'807U;
    CHECK(ranges_of("bytes=0-", most) == ranges{{0, most}});
    CHECK(ranges_of("bytes=18446744073709551615-18446744073709551615", most).empty());
}

TEST_CASE("a range behind the end is unsatisfiable", "[httpd][byte_range]") {
    CHECK(outcome_of("bytes=10000-") == range_outcome::unsatisfiable);
    CHECK(outcome_of("bytes=10000-10001") == range_outcome::unsatisfiable);
    CHECK(outcome_of("bytes=-0") == range_outcome::unsatisfiable);
    CHECK(outcome_of("bytes=-0, 20000-") == range_outcome::unsatisfiable);
    CHECK(outcome_of("bytes=0-", 0) == range_outcome::unsatisfiable);
    CHECK(outcome_of("bytes=0-0", 0) == range_outcome::unsatisfiable);
    // The last bytes of an empty file are all of it, and satisfiable.
    CHECK(outcome_of("bytes=-5", 0) == range_outcome::whole);
    // One that is satisfiable is enough.
    CHECK(ranges_of("bytes=20000-, 0-0", 10'000) == ranges{{0, 1}});
}

TEST_CASE("a malformed range, or one of another unit, is ignored", "[httpd][byte_range]") {
    for (const char* value :
         {"",           "bytes",         "bytes=",      "bytes=,",       "bytes=, ,",
          "bytes=-",    "bytes=--1",     "bytes=1",     "bytes=a-b",     "bytes=1-b",
          "bytes=2-1",  "bytes=0-1,2-1", "bytes=1-2-3", "bytes=1-2;3-4", "bytes=1 -2",
          "bytes=1- 2", "bytes=+1-2",    "bytes=1-+2",  "bytes=0x1-2",   "bytes =1-2",
          "items=0-5",  "0-5",           "bytes:0-5",   "bytes=1-2 3-4", "bytes=1.5-2"}) {
        CAPTURE(value);
        CHECK(outcome_of(value) == range_outcome::whole);
    }
}

TEST_CASE("several ranges keep their order", "[httpd][byte_range]") {
    CHECK(ranges_of("bytes=0-0,-1", 10'000) == ranges{{0, 1}, {9999, 1}});
    CHECK(ranges_of("bytes=5000-5009, 0-9 ,,\t9000-", 10'000) ==
          ranges{{5000, 10}, {0, 10}, {9000, 1000}});
}

TEST_CASE("ranges that overlap, or nearly touch, become one", "[httpd][byte_range]") {
    CHECK(ranges_of("bytes=0-99,50-149", 10'000) == ranges{{0, 150}});
    CHECK(ranges_of("bytes=0-99,100-199", 10'000) == ranges{{0, 200}});
    CHECK(ranges_of("bytes=100-199,0-99", 10'000) == ranges{{0, 200}});
    CHECK(ranges_of("bytes=0-99,10-20", 10'000) == ranges{{0, 100}});
    CHECK(ranges_of("bytes=10-20,0-99", 10'000) == ranges{{0, 100}});
    CHECK(ranges_of("bytes=0-9,89-98", 10'000) == ranges{{0, 99}});            // a gap of 79
    CHECK(ranges_of("bytes=0-9,90-99", 10'000) == ranges{{0, 10}, {90, 10}});  // of 80
    // The last one joins the first two, and takes the place of the earliest.
    CHECK(ranges_of("bytes=5000-,0-99,1000-1099,50-1050", 10'000) ==
          ranges{{5000, 5000}, {0, 1100}});
    CHECK(ranges_of("bytes=0-,0-,0-,0-,0-", 10'000) == ranges{{0, 10'000}});
}

TEST_CASE("too many ranges are ignored", "[httpd][byte_range]") {
    std::string value = "bytes=";
    for (std::size_t index = 0; index < range_count_max; ++index) {
        value += std::to_string(index * 200) + "-" + std::to_string(index * 200 + 9) + ",";
    }
    CHECK(ranges_of(value, 10'000).size() == range_count_max);
    CHECK(outcome_of(value + "9000-9001") == range_outcome::whole);
    // Those that are unsatisfiable, or of one place, count as well.
    std::string same = "bytes=0-0";
    for (std::size_t index = 0; index < range_count_max; ++index) same += ",0-0";
    CHECK(outcome_of(same) == range_outcome::whole);
}

TEST_CASE("for all ranges, no byte is sent twice and no requested byte is missing",
          "[httpd][byte_range]") {
    std::mt19937 random(20);  // NOLINT: the same numbers each time
    for (int round = 0; round < 2000; ++round) {
        const std::uint64_t file_bytes = random() % 2000 + 1;
        std::vector<bool> asked(file_bytes);
        std::string value = "bytes=";
        const auto count = random() % range_count_max + 1;
        for (unsigned index = 0; index < count; ++index) {
            const std::uint64_t first = random() % 2100;
            const std::uint64_t last = first + random() % 100;
            value += std::to_string(first) + "-" + std::to_string(last) + ",";
            for (std::uint64_t offset = first; offset <= last && offset < file_bytes; ++offset)
                asked[offset] = true;
        }
        std::vector<int> sent(file_bytes);
        for (const byte_range& range : ranges_of(value, file_bytes)) {
            REQUIRE(range.count > 0);
            REQUIRE(range.first + range.count <= file_bytes);
            for (std::uint64_t offset = range.first; offset < range.first + range.count; ++offset)
                ++sent[offset];
        }
        for (std::uint64_t offset = 0; offset < file_bytes; ++offset) {
            if (sent[offset] > 1 || (asked[offset] && sent[offset] == 0)) {
                CAPTURE(value, file_bytes, offset);
                FAIL("sent " << sent[offset] << " times");
            }
        }
    }
}

TEST_CASE("a multipart body has the length that was announced", "[httpd][byte_range]") {
    for (const char* value : {"bytes=0-0,-1", "bytes=0-9,100-1099,9000-", "bytes=9999-,0-8000"}) {
        const byte_ranges read(value, 10'000);
        const multipart_plan plan(read.ranges(), 10'000, "text/plain", "BOUNDARY");
        std::vector<char> room(plan.head_bytes_max());
        std::uint64_t total = 0;
        for (std::size_t index = 0; index < read.ranges().size(); ++index) {
            const std::string_view head = plan.part_head(index, room);
            CHECK_FALSE(head.empty());
            CHECK(plan.part_head(index, std::span(room).first(head.size() - 1)).empty());
            total += head.size() + read.ranges()[index].count;
        }
        total += plan.closing(room).size();
        CHECK(total == plan.content_bytes());
    }
}

TEST_CASE("the parts are framed as RFC 9110 14.6 shows", "[httpd][byte_range]") {
    const byte_ranges read("bytes=500-999,7000-7999", 8000);
    const multipart_plan plan(read.ranges(), 8000, "application/pdf", "THIS_STRING_SEPARATES");
    std::vector<char> room(plan.head_bytes_max());

    CHECK(plan.part_head(0, room) ==
          "\r\n--THIS_STRING_SEPARATES\r\nContent-Type: application/pdf\r\n"
          "Content-Range: bytes 500-999/8000\r\n\r\n");
    CHECK(plan.part_head(1, room) ==
          "\r\n--THIS_STRING_SEPARATES\r\nContent-Type: application/pdf\r\n"
          "Content-Range: bytes 7000-7999/8000\r\n\r\n");
    CHECK(plan.closing(room) == "\r\n--THIS_STRING_SEPARATES--\r\n");
}
