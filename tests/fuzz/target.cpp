// target.cpp: a name that read_target() gives stays below the root, whatever the path was.
#include "examples/httpd/http/target.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "fuzz.hpp"

namespace {

using namespace httpd;
using fuzz::check;

std::string encoded(std::string_view name) {
    constexpr const char* digits = "0123456789abcdef";
    std::string path = "/";
    for (const char byte : name) {
        if (byte == '/') {
            path += byte;
            continue;
        }
        const auto value = static_cast<unsigned char>(byte);
        path += '%';
        path += digits[value / 16];
        path += digits[value % 16];
    }
    return path;
}

void check_name(std::string_view name) {
    check(!name.empty() && name.front() != '/' && name.back() != '/', "relative, without ends");
    check(name.find('\0') == name.npos && name.data()[name.size()] == '\0', "NUL behind it only");
    if (name == ".") return;
    std::size_t first = 0;
    while (first <= name.size()) {
        const std::size_t last = std::min(name.find('/', first), name.size());
        const std::string_view segment = name.substr(first, last - first);
        check(!segment.empty() && segment != "." && segment != "..", "no such segment");
        first = last + 1;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string path = "/" + std::string(fuzz::text_of(data, size));
    std::vector<char> room(path.size() + 1);
    const target_name name = parse_target(path, room);
    check(name.error != target_error::too_long, "the room that is promised is enough");
    if (!name) return 0;
    check_name(name.name);

    // The name, encoded, names the same.
    const std::string again = encoded(name.name == "." ? "" : name.name);
    std::vector<char> other_room(again.size() + 1);
    const target_name other = parse_target(again, other_room);
    check(static_cast<bool>(other) && other.name == name.name && other.hidden == name.hidden,
          "a name is its own name");

    // Less room than there is need of is seen.
    std::vector<char> small(fuzz::pick(path, name.name.size() + 1));
    check(parse_target(path, small).error != target_error::none, "no room is an error");
    return 0;
}
