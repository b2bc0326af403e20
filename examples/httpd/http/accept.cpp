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

// The weight of a media type: that of the most specific member that includes the type.
struct preference {
    int rank = 0;  // 1: */*, 2: application/*, 3: application/json
    int weight = 0;

    void add(int member_rank, int member_weight) noexcept {
        if (member_rank < rank) return;
        weight = member_rank > rank ? member_weight : std::max(weight, member_weight);
        rank = member_rank;
    }
};

}  // namespace

bool prefers_json(std::string_view accept) noexcept {
    preference json;
    preference html;
    while (!accept.empty()) {
        const std::size_t comma = std::min(accept.find(','), accept.size());
        const std::string_view member = accept.substr(0, comma);
        accept.remove_prefix(std::min(comma + 1, accept.size()));
        const std::size_t semicolon = std::min(member.find(';'), member.size());
        const std::string_view type = trimmed(member.substr(0, semicolon));
        const int weight = weight_of(member.substr(semicolon));
        if (same_ignoring_case(type, "application/json"))
            json.add(3, weight);
        else if (same_ignoring_case(type, "text/html"))
            html.add(3, weight);
        else if (same_ignoring_case(type, "application/*"))
            json.add(2, weight);
        else if (same_ignoring_case(type, "text/*"))
            html.add(2, weight);
        else if (type == "*/*") {
            json.add(1, weight);
            html.add(1, weight);
        }
    }
    if (json.weight != html.weight) return json.weight > html.weight;
    return json.weight > 0 && json.rank == 3;
}

}  // namespace httpd
