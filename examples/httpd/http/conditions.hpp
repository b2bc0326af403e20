// conditions.hpp: validators and conditional requests (RFC 9110 8.8 and 13).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace httpd {

class request_head;

/// The entity tag of a file, as it is sent: "\"17f0c5a1b2c3d4e5-2a\"", with "-gzip" at the end for
/// a compressed one.
///
/// Computed from the time of modification and the size, so that copies of a file on several hosts
/// have equal tags; the inode would differ, and tells a client about the file system. Two writes of
/// one size within the granularity of the file system's clock have equal tags; a caller sends no
/// tag for a file that was modified so recently.
class entity_tag {
public:
    enum class strength : std::uint8_t { strong, weak };

    /// `version` tells versions of one size apart: the time of modification in nanoseconds, or a
    /// hash of the content. `coding` has at most 8 bytes.
    entity_tag(std::uint64_t version, std::uint64_t file_bytes, std::string_view coding = {},
               strength kind = strength::strong) noexcept;

    std::string_view text() const noexcept { return {text_.data(), size_}; }

private:
    std::array<char, sizeof("W/\"\"--") + 2 * 16 + 8> text_{};
    std::uint8_t size_ = 0;
};

/// The validators of a file's current version (RFC 9110 8.8).
struct validators {
    std::string_view entity_tag;  ///< as it is sent; empty if there is none
    /// Last-Modified, in seconds since 1970; nothing if it is not sent.
    std::optional<std::int64_t> modified_second;
};

/// The condition fields of a request; nothing where one is absent.
struct condition_fields {
    std::optional<std::string_view> if_match;
    std::optional<std::string_view> if_none_match;
    std::optional<std::string_view> if_modified_since;
    std::optional<std::string_view> if_unmodified_since;

    bool any() const noexcept {
        return if_match || if_none_match || if_modified_since || if_unmodified_since;
    }
};

/// Takes the fields out of a head. A list that came in several lines is put together in `scratch`;
/// one that does not fit matches nothing.
///
/// Lifetime   That of the head and of `scratch`.
condition_fields condition_fields_of(const request_head& head, std::span<char> scratch) noexcept;

enum class condition_outcome : std::uint8_t {
    proceed,
    not_modified,        ///< 304
    precondition_failed  ///< 412
};

/// Evaluates in the order of RFC 9110 13.2.2.
condition_outcome evaluate(const condition_fields& fields, const validators& file, bool get_or_head,
                           std::int64_t now_second) noexcept;

/// Whether Range is to be heeded: If-Range is absent, or names the file as it is. Only a strong tag
/// does, or the very date of its last change when that is over by a second.
bool if_range_matches(const request_head& head, const validators& file,
                      std::int64_t now_second) noexcept;

/// Whether a condition or a range is there, so that the answer to GET may be another than the whole
/// file.
bool has_condition_or_range(const request_head& head) noexcept;

/// RFC 9110 8.8.3.2. Both are entity tags.
bool match_strongly(std::string_view one, std::string_view other) noexcept;
bool match_weakly(std::string_view one, std::string_view other) noexcept;

}  // namespace httpd
