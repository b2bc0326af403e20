#include "request_head.hpp"

#include <algorithm>

#include "field_names.hpp"

namespace httpd {

// Fields that come twice are rare, so their places are not kept: the lines are read again.
std::optional<std::string_view> request_head::list(known_field field,
                                                   std::span<char> scratch) const noexcept {
    if (!has(field)) return std::nullopt;
    if (!repeated(field)) return text(field);

    std::size_t used = 0;
    std::string_view rest(base_ + fields_first_, std::size_t{size_} - fields_first_);
    while (true) {
        const std::string_view line = rest.substr(0, rest.find('\r'));
        if (line.empty()) break;
        rest.remove_prefix(line.size() + 2);
        const std::size_t colon = line.find(':');
        if (find_known_field(line.substr(0, colon)) != field) continue;
        const std::string_view value = trimmed(line.substr(colon + 1));
        const std::string_view comma = used == 0 ? "" : ", ";
        if (value.size() + comma.size() > scratch.size() - used) return std::nullopt;
        used += comma.copy(scratch.data() + used, comma.size());
        used += value.copy(scratch.data() + used, value.size());
    }
    return std::string_view(scratch.data(), used);
}

}  // namespace httpd
