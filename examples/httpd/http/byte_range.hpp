// byte_range.hpp: the parts of a file that a Range field requests, and the form of several parts in
// one response (RFC 9110 14).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace httpd {

/// Bytes of a file. Never empty.
struct byte_range {
    std::uint64_t first;
    std::uint64_t count;

    bool operator==(const byte_range&) const = default;
};

/// More ranges than this in one field are taken for an attack, and the whole file is sent.
inline constexpr std::size_t range_count_max = 16;

/// Ranges closer than this are sent as one: the head of a part of its own is about as long.
inline constexpr std::uint64_t range_gap_max = 80;

enum class range_outcome : std::uint8_t {
    whole,         ///< 200: there is nothing to heed in the field
    partial,       ///< 206: the ranges say what
    unsatisfiable  ///< 416, with "Content-Range: bytes */SIZE"
};

/// Result of a Range field.
class byte_ranges {
public:
    /// `value` is that of the one Range line; with several lines there is nothing to heed. A field
    /// of another unit, or one that is malformed, is ignored.
    byte_ranges(std::string_view value, std::uint64_t file_bytes) noexcept;

    range_outcome outcome() const noexcept { return outcome_; }

    /// In the order in which they were asked for. No two overlap: together they are never more than
    /// the file. Empty unless `partial`; one is sent as it is, more as multipart/byteranges.
    std::span<const byte_range> ranges() const noexcept { return {ranges_.data(), count_}; }

private:
    bool read(std::string_view list, std::uint64_t file_bytes) noexcept;
    void add(byte_range range) noexcept;

    std::array<byte_range, range_count_max> ranges_{};
    std::size_t count_ = 0;
    range_outcome outcome_ = range_outcome::whole;
};

/// The frame of a multipart/byteranges body: part_head(0), the bytes of range 0, part_head(1), ...,
/// closing().
///
/// Lifetime   That of what it was made of.
class multipart_plan {
public:
    /// `boundary` occurs in no file that is sent: 16 random bytes in hexadecimal do not.
    multipart_plan(std::span<const byte_range> ranges, std::uint64_t file_bytes,
                   std::string_view media_type, std::string_view boundary) noexcept
        : ranges_(ranges), file_bytes_(file_bytes), media_type_(media_type), boundary_(boundary) {}

    /// For Content-Length: all heads, all ranges and the closing line.
    std::uint64_t content_bytes() const noexcept;

    /// Room for any part_head(), and for closing().
    std::size_t head_bytes_max() const noexcept;

    /// The head before the bytes of a range; empty when `out` is too small.
    std::string_view part_head(std::size_t index, std::span<char> out) const noexcept;
    std::string_view closing(std::span<char> out) const noexcept;

private:
    std::span<const byte_range> ranges_;
    std::uint64_t file_bytes_;
    std::string_view media_type_;
    std::string_view boundary_;
};

}  // namespace httpd
