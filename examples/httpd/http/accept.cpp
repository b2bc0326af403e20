#include "accept.hpp"

#include <algorithm>
#include <charconv>

#include "characters.hpp"

namespace httpd {
namespace {

// The weight of a member's parameters in thousandths; 1000 without one, 0 if it is malformed.
int weight_of(std::string_view parameters) noexcept {
    while (!parameters.empty()) {
        parameters.remove_prefix(1);  // the semicolon
        const std::size_t end = std::min(parameters.find(';'), parameters.size());
        const std::string_view one = trimmed(parameters.substr(0, end));
        parameters.remove_prefix(end);
        if (!one.starts_with("q=") && !one.starts_with("Q=")) continue;
        double weight = 0;
        const std::string_view digits = one.substr(2);
        const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(),
                                                   weight, std::chars_format::fixed);
        if (error != std::errc() || stop != digits.data() + digits.size()) return 0;
        return static_cast<int>(std::clamp(weight, 0.0, 1.0) * 1000);
    }
    return 1000;
}

}  // namespace

bool prefers_json(std::string_view accept) noexcept {
    int json = 0;
    int html = 0;
    while (!accept.empty()) {
        const std::size_t comma = std::min(accept.find(','), accept.size());
        const std::string_view member = accept.substr(0, comma);
        accept.remove_prefix(std::min(comma + 1, accept.size()));
        const std::size_t semicolon = std::min(member.find(';'), member.size());
        const std::string_view type = trimmed(member.substr(0, semicolon));
        if (same_ignoring_case(type, "application/json"))
            json = std::max(json, weight_of(member.substr(semicolon)));
        if (same_ignoring_case(type, "text/html"))
            html = std::max(html, weight_of(member.substr(semicolon)));
    }
    return json > 0 && json >= html;
}

}  // namespace httpd
