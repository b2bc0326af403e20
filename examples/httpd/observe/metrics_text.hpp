// metrics_text.hpp: numbers in the text format of Prometheus, version 0.0.4.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace httpd {

inline constexpr std::string_view metrics_media_type = "text/plain; version=0.0.4; charset=utf-8";

/// How long things took, in buckets whose bounds double from 16 us to 8.4 s; above is the last one.
///
/// Thread     One; those of several are added up by +=.
class latency_histogram {
public:
    static constexpr std::size_t bound_count = 20;

    static constexpr std::chrono::nanoseconds bound(std::size_t index) noexcept {
        return std::chrono::nanoseconds(std::int64_t{16'000} << index);
    }

    /// Hot path: a few instructions, no branch that depends on the time.
    void add(std::chrono::nanoseconds took) noexcept;

    latency_histogram& operator+=(const latency_histogram& other) noexcept;

    /// Those that took at most bound(index), and more than the bound before; the last is for more
    /// than any bound.
    std::uint64_t count(std::size_t index) const noexcept { return counts_[index]; }
    std::chrono::nanoseconds sum() const noexcept { return sum_; }

private:
    std::array<std::uint64_t, bound_count + 1> counts_{};
    std::chrono::nanoseconds sum_{};
};

/// Writes a page. Names of metrics and labels are the program's own; values of labels may hold
/// anything.
///
/// Use        page.counter("httpd_requests_total", "Requests answered.");
///            page.sample({{"status", "200"}}, 17);
class metrics_text {
public:
    struct label {
        std::string_view name;
        std::string_view value;
    };
    using labels = std::initializer_list<label>;

    /// Begins a family, whose samples follow.
    void counter(std::string_view name, std::string_view help) { family(name, help, "counter"); }
    void gauge(std::string_view name, std::string_view help) { family(name, help, "gauge"); }
    /// A family that is one number.
    void counter(std::string_view name, std::string_view help, std::uint64_t value) {
        counter(name, help);
        sample(value);
    }
    void gauge(std::string_view name, std::string_view help, std::uint64_t value) {
        gauge(name, help);
        sample(value);
    }

    /// A value of the family that was begun last.
    void sample(labels which, std::uint64_t value);
    void sample(std::uint64_t value) { sample({}, value); }

    /// A family of its own, in seconds.
    void histogram(std::string_view name, std::string_view help, const latency_histogram& values);

    const std::string& text() const noexcept { return text_; }

private:
    void family(std::string_view name, std::string_view help, std::string_view type);
    void line_begin(std::string_view suffix, labels which);

    std::string text_;
    std::string name_;
};

}  // namespace httpd
