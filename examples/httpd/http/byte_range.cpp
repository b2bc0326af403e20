#include "byte_range.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

#include "characters.hpp"

namespace httpd {
namespace {

constexpr std::uint64_t position_max = std::numeric_limits<std::uint64_t>::max();

// A position, or the largest there is when it is larger; nothing when there is no digit.
std::optional<std::uint64_t> take_position(std::string_view& text) noexcept {
    const char* const end = text.data() + text.size();
    if (text.empty() || !is(text.front(), digit_character)) return std::nullopt;
    std::uint64_t position = 0;
    const auto [last, error] = std::from_chars(text.data(), end, position);
    if (error != std::errc()) position = position_max;
    text.remove_prefix(static_cast<std::size_t>(last - text.data()));
    return position;
}

// Pieces of text, one behind the other, as far as there is room.
class piece_writer {
public:
    explicit piece_writer(std::span<char> out) noexcept : out_(out) {}

    piece_writer& put(std::string_view text) noexcept {
        if (text.size() > out_.size() - size_) {
            good_ = false;
            return *this;
        }
        size_ += text.copy(out_.data() + size_, text.size());
        return *this;
    }
    piece_writer& put(std::uint64_t number) noexcept {
        std::array<char, 20> digits;
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
        return put({digits.data(), static_cast<std::size_t>(end - digits.data())});
    }
    std::string_view done() const noexcept {
        return good_ ? std::string_view(out_.data(), size_) : std::string_view();
    }

private:
    std::span<char> out_;
    std::size_t size_ = 0;
    bool good_ = true;
};

std::size_t digit_count(std::uint64_t number) noexcept {
    std::size_t count = 1;
    for (; number >= 10; number /= 10) ++count;
    return count;
}

// Constant text of a part's head, in addition to boundary, type and numbers.
constexpr std::string_view before_boundary = "\r\n--";
constexpr std::string_view before_type = "\r\nContent-Type: ";
constexpr std::string_view before_range = "\r\nContent-Range: bytes ";
constexpr std::string_view before_body = "\r\n\r\n";
constexpr std::string_view after_last_boundary = "--\r\n";

}  // namespace

byte_ranges::byte_ranges(std::string_view value, std::uint64_t file_bytes) noexcept {
    constexpr std::string_view unit = "bytes=";
    if (value.size() <= unit.size() || !same_ignoring_case(value.substr(0, unit.size()), unit) ||
        !read(value.substr(unit.size()), file_bytes)) {
        outcome_ = range_outcome::whole;
        count_ = 0;
    }
}

// False when the list is to be ignored.
bool byte_ranges::read(std::string_view list, std::uint64_t file_bytes) noexcept {
    std::size_t asked_count = 0;
    while (true) {
        list = trimmed(list);
        if (list.empty()) break;
        if (list.front() == ',') {  // RFC 9110 5.6.1: a list may have empty members
            list.remove_prefix(1);
            continue;
        }
        if (++asked_count > range_count_max) return false;
        const auto first = take_position(list);
        if (!list.starts_with('-')) return false;
        list.remove_prefix(1);
        const auto last = take_position(list);
        list = trimmed(list);
        if (!list.empty() && list.front() != ',') return false;

        if (first) {
            if (last && *last < *first) return false;
            if (*first < file_bytes) {
                add({*first, std::min(last.value_or(position_max), file_bytes - 1) - *first + 1});
            }
        } else {
            if (!last) return false;
            const std::uint64_t count = std::min(*last, file_bytes);
            // The end of an empty file is satisfiable, but a 206 of no bytes cannot be written.
            if (*last != 0 && file_bytes == 0) return false;
            if (count != 0) add({file_bytes - count, count});
        }
    }
    if (asked_count == 0) return false;
    outcome_ = count_ == 0 ? range_outcome::unsatisfiable : range_outcome::partial;
    return true;
}

// Takes up all that are near it, and so may become near to one looked at before.
void byte_ranges::add(byte_range range) noexcept {
    std::size_t place = count_;
    for (std::size_t index = 0; index < count_;) {
        const byte_range other = ranges_[index];
        const std::uint64_t range_end = range.first + range.count;
        const std::uint64_t other_end = other.first + other.count;
        const bool before = other.first >= range_end && other.first - range_end >= range_gap_max;
        const bool behind = range.first >= other_end && range.first - other_end >= range_gap_max;
        if (before || behind) {
            ++index;
            continue;
        }
        range.first = std::min(range.first, other.first);
        range.count = std::max(range_end, other_end) - range.first;
        place = std::min(place, index);
        std::copy(ranges_.begin() + static_cast<std::ptrdiff_t>(index) + 1,
                  ranges_.begin() + static_cast<std::ptrdiff_t>(count_),
                  ranges_.begin() + static_cast<std::ptrdiff_t>(index));
        --count_;
        index = 0;
    }
    place = std::min(place, count_);
    std::copy_backward(ranges_.begin() + static_cast<std::ptrdiff_t>(place),
                       ranges_.begin() + static_cast<std::ptrdiff_t>(count_),
                       ranges_.begin() + static_cast<std::ptrdiff_t>(count_) + 1);
    ranges_[place] = range;
    ++count_;
}

std::size_t multipart_plan::head_bytes_max() const noexcept {
    return before_boundary.size() + boundary_.size() + before_type.size() + media_type_.size() +
           before_range.size() + 3 * 20 + 2 + before_body.size();
}

std::uint64_t multipart_plan::content_bytes() const noexcept {
    const std::size_t same = before_boundary.size() + boundary_.size() + before_type.size() +
                             media_type_.size() + before_range.size() + 2 +
                             digit_count(file_bytes_) + before_body.size();
    std::uint64_t total = before_boundary.size() + boundary_.size() + after_last_boundary.size();
    for (const byte_range& range : ranges_) {
        total += same + digit_count(range.first) + digit_count(range.first + range.count - 1) +
                 range.count;
    }
    return total;
}

std::string_view multipart_plan::part_head(std::size_t index, std::span<char> out) const noexcept {
    const byte_range& range = ranges_[index];
    return piece_writer(out)
        .put(before_boundary)
        .put(boundary_)
        .put(before_type)
        .put(media_type_)
        .put(before_range)
        .put(range.first)
        .put("-")
        .put(range.first + range.count - 1)
        .put("/")
        .put(file_bytes_)
        .put(before_body)
        .done();
}

std::string_view multipart_plan::closing(std::span<char> out) const noexcept {
    return piece_writer(out).put(before_boundary).put(boundary_).put(after_last_boundary).done();
}

}  // namespace httpd
