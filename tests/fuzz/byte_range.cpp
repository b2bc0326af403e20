// byte_range.cpp: ranges are within the file and apart, and a multipart body has its length.
#include "examples/httpd/http/byte_range.hpp"

#include <string>
#include <vector>

#include "fuzz.hpp"

using namespace httpd;
using fuzz::check;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    // Files of all sizes: a random number of low bits.
    const std::uint64_t file_bytes =
        (0x5a5a5a5a5a5a5a00ULL + data[0]) & ((1ULL << (data[1] % 63)) - 1);
    const fuzz::exact_copy rest(fuzz::text_of(data + 2, size - 2));
    const std::string with_unit = "bytes=" + std::string(rest.text());

    for (const std::string_view value : {rest.text(), std::string_view(with_unit)}) {
        const byte_ranges read(value, file_bytes);
        const auto ranges = read.ranges();
        check(ranges.empty() == (read.outcome() != range_outcome::partial), "ranges when partial");
        check(ranges.size() <= range_count_max, "not too many");
        for (std::size_t index = 0; index < ranges.size(); ++index) {
            const byte_range& one = ranges[index];
            check(one.count != 0 && one.first < file_bytes && one.count <= file_bytes - one.first,
                  "within the file");
            for (std::size_t before = 0; before < index; ++before) {
                const byte_range& other = ranges[before];
                check(one.first >= other.first + other.count + range_gap_max ||
                          other.first >= one.first + one.count + range_gap_max,
                      "apart");
            }
        }
        const multipart_plan plan(ranges, file_bytes, "text/plain", "boundary");
        std::vector<char> room(plan.head_bytes_max());
        std::uint64_t total = plan.closing(room).size();
        for (std::size_t index = 0; index < ranges.size(); ++index) {
            const std::string_view head = plan.part_head(index, room);
            check(!head.empty(), "the room is enough");
            total += head.size() + ranges[index].count;
        }
        check(total == plan.content_bytes(), "the length is right");
    }
    return 0;
}
