#include "accept_encoding.hpp"

#include <algorithm>
#include <optional>

#include "characters.hpp"

namespace httpd {
namespace {

struct coding_row {
    std::string_view name;
    std::string_view suffix;
};

constexpr std::array<coding_row, content_coding_count> coding_table{{
    {"zstd", ".zst"},
    {"br", ".br"},
    {"gzip", ".gz"},
    {"", ""},
}};

// A weight in thousandths.
using weight = int;

// qvalue of RFC 9110 12.4.2: "1", "0.5", "0.123".
std::optional<weight> read_weight(std::string_view text) noexcept {
    if (text.empty() || text.size() > 5 || (text[0] != '0' && text[0] != '1')) return std::nullopt;
    if (text.size() > 1 && text[1] != '.') return std::nullopt;
    weight value = (text[0] - '0') * 1000;
    weight unit = 100;
    for (const char byte : text.substr(std::min<std::size_t>(2, text.size()))) {
        if (!is(byte, digit_character)) return std::nullopt;
        value += (byte - '0') * unit;
        unit /= 10;
    }
    if (value > 1000) return std::nullopt;
    return value;
}

// The weight of one member, without its name: "", or ";q=0.5" with blanks anywhere but in it.
std::optional<weight> weight_of(std::string_view parameters) noexcept {
    parameters = trimmed(parameters);
    if (parameters.empty()) return 1000;
    parameters = trimmed(parameters.substr(1));  // the semicolon
    if (!parameters.starts_with("q=") && !parameters.starts_with("Q=")) return std::nullopt;
    return read_weight(parameters.substr(2));
}

std::optional<content_coding> coding_of(std::string_view name) noexcept {
    using enum content_coding;
    if (same_ignoring_case(name, "gzip") || same_ignoring_case(name, "x-gzip")) return gzip;
    if (same_ignoring_case(name, "br")) return br;
    if (same_ignoring_case(name, "zstd")) return zstd;
    if (same_ignoring_case(name, "identity")) return identity;
    return std::nullopt;
}

}  // namespace

std::string_view name_of(content_coding coding) noexcept {
    return coding_table[static_cast<std::size_t>(coding)].name;
}

std::string_view suffix_of(content_coding coding) noexcept {
    return coding_table[static_cast<std::size_t>(coding)].suffix;
}

accepted_codings::accepted_codings(std::string_view value) noexcept {
    std::array<std::optional<weight>, content_coding_count> weights;
    std::optional<weight> any_other;
    while (!value.empty()) {
        const std::size_t comma = std::min(value.find(','), value.size());
        const std::string_view member = value.substr(0, comma);
        value.remove_prefix(std::min(comma + 1, value.size()));

        const std::size_t semicolon = std::min(member.find(';'), member.size());
        const std::string_view name = trimmed(member.substr(0, semicolon));
        const auto says = weight_of(member.substr(semicolon));
        if (!says) continue;
        if (name == "*") any_other = says;
        if (const auto coding = coding_of(name)) weights[static_cast<std::size_t>(*coding)] = says;
    }

    // Each goes behind those of its weight, so that equals keep our order. Identity stays when it
    // is excluded, too.
    std::array<weight, content_coding_count> order_weights{};
    count_ = 0;
    for (std::size_t index = 0; index < content_coding_count; ++index) {
        const auto coding = static_cast<content_coding>(index);
        const weight own = weights[index].value_or(any_other.value_or(0));
        if (own == 0 && coding != content_coding::identity) continue;
        std::size_t place = count_++;
        for (; place > 0 && order_weights[place - 1] < own; --place) {
            order_weights[place] = order_weights[place - 1];
            order_[place] = order_[place - 1];
        }
        order_weights[place] = own;
        order_[place] = coding;
    }
}

content_coding accepted_codings::choose(unsigned available) const noexcept {
    available |= bit(content_coding::identity);
    return *std::ranges::find_if(
        in_order(), [available](content_coding coding) { return (available & bit(coding)) != 0; });
}

}  // namespace httpd
