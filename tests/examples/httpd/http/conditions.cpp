#include "examples/httpd/http/conditions.hpp"

#include "tests/support/catch.hpp"

#include <string>

#include "examples/httpd/http/request_parser.hpp"

using namespace httpd;

namespace {

constexpr std::int64_t modified = 784'111'777;
constexpr std::int64_t now = 1'800'000'000;
constexpr const char* same_date = "Sun, 06 Nov 1994 08:49:37 GMT";
constexpr const char* older_date = "Sun, 06 Nov 1994 08:49:36 GMT";
constexpr const char* newer_date = "Sun, 06 Nov 1994 08:49:38 GMT";
constexpr validators strong_file{.entity_tag = "\"x\"", .modified_second = modified};
constexpr validators weak_file{.entity_tag = "W/\"x\"", .modified_second = modified};

std::string field(const char* name, const std::string& value) {
    return std::string(name) + ": " + value + "\r\n";
}

// A request with these field lines; it keeps their bytes.
struct request {
    explicit request(const std::string& fields)
        : text("GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n") {
        REQUIRE(parser.parse(text) == parse_state::complete);
    }
    request(const request&) = delete;
    request& operator=(const request&) = delete;

    std::string text;
    request_parser parser;
};

condition_outcome outcome_of(const std::string& fields, const validators& file = strong_file,
                             bool get_or_head = true) {
    const request asked(fields);
    std::array<char, 64> scratch{};
    return evaluate(condition_fields_of(asked.parser.head(), scratch), file, get_or_head, now);
}

bool range_holds(const std::string& if_range, const validators& file = strong_file,
                 std::int64_t seconds = now) {
    const request asked(field("If-Range", if_range));
    return if_range_matches(asked.parser.head(), file, seconds);
}

}  // namespace

TEST_CASE("an entity tag distinguishes version, size and coding", "[httpd][conditions]") {
    CHECK(entity_tag(0x17f0c5a1b2c3d4e5, 0x2a).text() == "\"17f0c5a1b2c3d4e5-2a\"");
    CHECK(entity_tag(2, 1, "gzip").text() == "\"2-1-gzip\"");
    CHECK(entity_tag(2, 1, {}, entity_tag::strength::weak).text() == "W/\"2-1\"");
    CHECK(entity_tag(~0ULL, ~0ULL, "identity", entity_tag::strength::weak).text().size() == 46);
    CHECK(entity_tag(1, 2).text() != entity_tag(2, 2).text());
    CHECK(entity_tag(1, 2).text() != entity_tag(1, 3).text());
    CHECK(entity_tag(1, 2).text() != entity_tag(1, 2, "br").text());
}

TEST_CASE("a file without a date ignores conditions on dates", "[httpd][conditions]") {
    const validators undated{.entity_tag = "\"x\"", .modified_second = std::nullopt};

    CHECK(outcome_of(field("If-Modified-Since", newer_date), undated) ==
          condition_outcome::proceed);
    CHECK(outcome_of(field("If-Unmodified-Since", older_date), undated) ==
          condition_outcome::proceed);
    CHECK_FALSE(range_holds(same_date, undated));
}

TEST_CASE("a file without a tag matches no tag but a star", "[httpd][conditions]") {
    const validators untagged{.entity_tag = {}, .modified_second = modified};

    CHECK(outcome_of(field("If-None-Match", "\"x\""), untagged) == condition_outcome::proceed);
    CHECK(outcome_of(field("If-None-Match", "*"), untagged) == condition_outcome::not_modified);
    CHECK(outcome_of(field("If-Match", "\"x\""), untagged) ==
          condition_outcome::precondition_failed);
    CHECK(outcome_of(field("If-Match", "*"), untagged) == condition_outcome::proceed);
    CHECK_FALSE(range_holds("\"x\"", untagged));
}

TEST_CASE("tags match as RFC 9110 8.8.3.2 shows", "[httpd][conditions]") {
    struct {
        const char* one;
        const char* other;
        bool strongly;
        bool weakly;
    } const cases[] = {
        {"W/\"1\"", "W/\"1\"", false, true},
        {"W/\"1\"", "W/\"2\"", false, false},
        {"W/\"1\"", "\"1\"", false, true},
        {"\"1\"", "\"1\"", true, true},
    };
    for (const auto& one : cases) {
        CAPTURE(one.one, one.other);
        CHECK(match_strongly(one.one, one.other) == one.strongly);
        CHECK(match_strongly(one.other, one.one) == one.strongly);
        CHECK(match_weakly(one.one, one.other) == one.weakly);
        CHECK(match_weakly(one.other, one.one) == one.weakly);
    }
}

TEST_CASE("without conditions a request proceeds", "[httpd][conditions]") {
    CHECK(outcome_of("") == condition_outcome::proceed);
    CHECK_FALSE(condition_fields{}.any());
}

TEST_CASE("If-None-Match compares weakly and in lists", "[httpd][conditions]") {
    for (const char* value :
         {"\"x\"", "W/\"x\"", "*", " * ", "\"a\", \"x\"", "\"a\",\"x\"", "\"a\" ,W/\"x\" , \"b\"",
          ",, \"x\"", "\"a,b\", \"x\"", "\"\xff\", \"x\"", "\"\", \"x\""}) {
        CAPTURE(value);
        CHECK(outcome_of(field("If-None-Match", value)) == condition_outcome::not_modified);
        CHECK(outcome_of(field("If-None-Match", value), weak_file) ==
              condition_outcome::not_modified);
        CHECK(outcome_of(field("If-None-Match", value), strong_file, false) ==
              condition_outcome::precondition_failed);
    }
    for (const char* value : {"\"y\"", "x", "\"x", "x\"", "\"X\"", "w/\"x\"", "W/ \"x\"", "",
                              "\"a\" \"x\"", "\"a, \"x\"", "**", "*, \"a\"", "\"a\";\"x\""}) {
        CAPTURE(value);
        CHECK(outcome_of(field("If-None-Match", value)) == condition_outcome::proceed);
    }
    CHECK(outcome_of(field("If-None-Match", "\"a\"") + field("If-None-Match", "\"x\"")) ==
          condition_outcome::not_modified);
}

TEST_CASE("If-Match compares strongly and in lists", "[httpd][conditions]") {
    CHECK(outcome_of(field("If-Match", "\"x\"")) == condition_outcome::proceed);
    CHECK(outcome_of(field("If-Match", "\"a\", \"x\"")) == condition_outcome::proceed);
    CHECK(outcome_of(field("If-Match", "*")) == condition_outcome::proceed);
    CHECK(outcome_of(field("If-Match", "*"), weak_file) == condition_outcome::proceed);
    for (const char* value : {"\"y\"", "W/\"x\"", "", "x", "\"x"}) {
        CAPTURE(value);
        CHECK(outcome_of(field("If-Match", value)) == condition_outcome::precondition_failed);
    }
    CHECK(outcome_of(field("If-Match", "\"x\""), weak_file) ==
          condition_outcome::precondition_failed);
}

TEST_CASE("dates are compared to the second, and ignored when they are none",
          "[httpd][conditions]") {
    const auto since = [](const char* value) { return field("If-Modified-Since", value); };
    const auto unless = [](const char* value) { return field("If-Unmodified-Since", value); };

    CHECK(outcome_of(since(same_date)) == condition_outcome::not_modified);
    CHECK(outcome_of(since(newer_date)) == condition_outcome::not_modified);
    CHECK(outcome_of(since("Sunday, 06-Nov-94 08:49:37 GMT")) == condition_outcome::not_modified);
    CHECK(outcome_of(since("Sun Nov  6 08:49:37 1994")) == condition_outcome::not_modified);
    CHECK(outcome_of(since(older_date)) == condition_outcome::proceed);
    CHECK(outcome_of(since("yesterday")) == condition_outcome::proceed);
    CHECK(outcome_of(since(same_date), strong_file, false) == condition_outcome::proceed);
    CHECK(outcome_of(since(same_date) + since(same_date)) == condition_outcome::proceed);

    CHECK(outcome_of(unless(same_date)) == condition_outcome::proceed);
    CHECK(outcome_of(unless(newer_date)) == condition_outcome::proceed);
    CHECK(outcome_of(unless(older_date)) == condition_outcome::precondition_failed);
    CHECK(outcome_of(unless("yesterday")) == condition_outcome::proceed);
}

TEST_CASE("conditions are taken in the order of RFC 9110 13.2.2", "[httpd][conditions]") {
    const std::string match = field("If-Match", "\"x\"");
    const std::string match_other = field("If-Match", "\"y\"");
    const std::string unmodified_false = field("If-Unmodified-Since", older_date);
    const std::string unmodified_true = field("If-Unmodified-Since", same_date);
    const std::string none_match_false = field("If-None-Match", "\"x\"");
    const std::string none_match_true = field("If-None-Match", "\"y\"");
    const std::string modified_false = field("If-Modified-Since", same_date);
    const std::string modified_true = field("If-Modified-Since", older_date);
    using enum condition_outcome;

    // Step 1 leaves out step 2.
    CHECK(outcome_of(match + unmodified_false) == proceed);
    CHECK(outcome_of(match_other + unmodified_true) == precondition_failed);
    // Step 1 and 2 come before step 3.
    CHECK(outcome_of(match_other + none_match_false) == precondition_failed);
    CHECK(outcome_of(unmodified_false + none_match_false) == precondition_failed);
    CHECK(outcome_of(match + none_match_false) == not_modified);
    // Step 3 leaves out step 4.
    CHECK(outcome_of(none_match_true + modified_false) == proceed);
    CHECK(outcome_of(none_match_false + modified_true) == not_modified);
    // Step 2 comes before step 4.
    CHECK(outcome_of(unmodified_false + modified_false) == precondition_failed);
    CHECK(outcome_of(unmodified_true + modified_false) == not_modified);
}

TEST_CASE("a list that is too long for the scratch matches nothing", "[httpd][conditions]") {
    const std::string long_tag = '"' + std::string(80, 'y') + '"';
    CHECK(outcome_of(field("If-None-Match", "\"x\"") + field("If-None-Match", long_tag)) ==
          condition_outcome::proceed);
    CHECK(outcome_of(field("If-Match", "\"x\"") + field("If-Match", long_tag)) ==
          condition_outcome::precondition_failed);
}

TEST_CASE("both lists can come in several lines", "[httpd][conditions]") {
    CHECK(outcome_of(field("If-Match", "\"a\"") + field("If-None-Match", "\"b\"") +
                     field("If-Match", "\"x\"") + field("If-None-Match", "\"c\"")) ==
          condition_outcome::proceed);
    CHECK(outcome_of(field("If-Match", "\"a\"") + field("If-None-Match", "\"b\"") +
                     field("If-Match", "\"x\"") + field("If-None-Match", "\"x\"")) ==
          condition_outcome::not_modified);
}

TEST_CASE("If-Range takes a strong tag or the date itself", "[httpd][conditions]") {
    const request plain("");
    CHECK(if_range_matches(plain.parser.head(), strong_file, now));

    CHECK(range_holds("\"x\""));
    CHECK_FALSE(range_holds("\"y\""));
    CHECK_FALSE(range_holds("W/\"x\""));
    CHECK_FALSE(range_holds("\"x\"", weak_file));
    CHECK_FALSE(range_holds("\"x\", \"y\""));
    CHECK_FALSE(range_holds("*"));
    CHECK_FALSE(range_holds(""));

    CHECK(range_holds(same_date));
    CHECK(range_holds("Sunday, 06-Nov-94 08:49:37 GMT"));
    CHECK_FALSE(range_holds(older_date));
    CHECK_FALSE(range_holds(newer_date));
    CHECK(range_holds(same_date, strong_file, modified + 1));
    CHECK_FALSE(range_holds(same_date, strong_file, modified));  // the second is not over

    const request twice(field("If-Range", "\"x\"") + field("If-Range", "\"x\""));
    CHECK_FALSE(if_range_matches(twice.parser.head(), strong_file, now));
}
