#include "examples/httpd/http/scan.hpp"

#include "tests/support/catch.hpp"

#include <algorithm>
#include <string>
#include <vector>

using namespace httpd;

namespace {

bool is_control(char byte) { return !is(byte, field_character); }
bool is_no_token(char byte) { return !is(byte, token_character); }

}  // namespace

TEST_CASE("each byte is found, or skipped, at every position", "[httpd][scan]") {
    for (std::size_t size = 0; size < 40; ++size) {
        for (std::size_t place = 0; place < size; ++place) {
            for (unsigned value = 0; value < 256; ++value) {
                std::vector<char> line(size, 'a');  // of its own: a sanitizer sees its end
                line[place] = static_cast<char>(value);
                const char* const first = line.data();
                const char* const last = first + size;

                const char* const control = std::find_if(first, last, is_control);
                const char* const behind_name = std::find_if(first, last, is_no_token);
                const bool word_found = detail::find_control_by_word(first, last) == first + place;
                const bool word_may = value < 0x20 || value == 0x7f;
                if (detail::skip_text(first, last) != control ||
                    detail::skip_name(first, last) != behind_name ||
                    (place < size / 8 * 8 && word_found != word_may)) {
                    CAPTURE(size, place, value);
                    FAIL("found elsewhere");
                }
            }
        }
    }
}

TEST_CASE("tabs do not hide what follows them", "[httpd][scan]") {
    for (std::size_t size = 1; size < 70; ++size) {
        for (std::size_t step = 1; step < 20; ++step) {
            std::string line(size, '\xff');
            for (std::size_t i = 0; i < size; i += step) line[i] = '\t';
            line.back() = '\n';
            const char* const last = line.data() + size;
            CHECK(detail::skip_text(line.data(), last) == last - 1);
            CHECK(detail::skip_text(line.data(), last - 1) == last - 1);
        }
    }
}
