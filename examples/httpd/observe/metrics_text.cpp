#include "metrics_text.hpp"

#include <algorithm>
#include <bit>
#include <charconv>

namespace httpd {
namespace {

// As short as it can be and still be the same number.
std::string seconds_text(std::chrono::nanoseconds time) {
    std::array<char, 32> digits{};
    const double seconds = std::chrono::duration<double>(time).count();
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), seconds).ptr;
    return {digits.data(), end};
}

}  // namespace

void latency_histogram::add(std::chrono::nanoseconds took) noexcept {
    took = std::max(took, std::chrono::nanoseconds(0));
    // The first bound that is not below `took` is 16 us times this power of two.
    const auto units = (static_cast<std::uint64_t>(took.count()) + 15'999) / 16'000;
    const auto index = static_cast<std::size_t>(units <= 1 ? 0 : std::bit_width(units - 1));
    ++counts_[std::min(index, bound_count)];
    sum_ += took;
}

latency_histogram& latency_histogram::operator+=(const latency_histogram& other) noexcept {
    for (std::size_t index = 0; index < counts_.size(); ++index) {
        counts_[index] += other.counts_[index];
    }
    sum_ += other.sum_;
    return *this;
}

void metrics_text::family(std::string_view name, std::string_view help, std::string_view type) {
    name_ = name;
    text_.append("# HELP ").append(name).append(" ").append(help).append("\n");
    text_.append("# TYPE ").append(name).append(" ").append(type).append("\n");
}

void metrics_text::line_begin(std::string_view suffix, labels which) {
    text_.append(name_).append(suffix);
    char before = '{';
    for (const label& one : which) {
        text_ += before;
        before = ',';
        text_.append(one.name).append("=\"");
        for (const char byte : one.value) {
            if (byte == '\n') {
                text_.append("\\n");
                continue;
            }
            if (byte == '"' || byte == '\\') text_ += '\\';
            text_ += byte;
        }
        text_ += '"';
    }
    text_.append(which.size() == 0 ? " " : "} ");
}

void metrics_text::sample(labels which, std::uint64_t value) {
    line_begin("", which);
    text_.append(std::to_string(value)).append("\n");
}

// A bucket counts all that are not above its bound.
void metrics_text::histogram(std::string_view name, std::string_view help,
                             const latency_histogram& values) {
    family(name, help, "histogram");
    std::uint64_t total = 0;
    for (std::size_t index = 0; index <= latency_histogram::bound_count; ++index) {
        total += values.count(index);
        const bool last = index == latency_histogram::bound_count;
        const std::string bound = last ? "+Inf" : seconds_text(latency_histogram::bound(index));
        line_begin("_bucket", {{"le", bound}});
        text_.append(std::to_string(total)).append("\n");
    }
    line_begin("_sum", {});
    text_.append(seconds_text(values.sum())).append("\n");
    line_begin("_count", {});
    text_.append(std::to_string(total)).append("\n");
}

}  // namespace httpd
