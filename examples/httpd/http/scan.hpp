// scan.hpp: the first byte that a line may not hold, many bytes at a time.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "characters.hpp"

namespace httpd::detail {

/// For any machine: eight bytes in one register.
///
/// Result     The first byte in [at, end) that is below 0x20, HTAB among them, or 0x7f; when there
///            is none, a place less than eight bytes before `end`.
inline const char* find_control_by_word(const char* position, const char* end) noexcept {
    constexpr std::uint64_t ones = 0x0101010101010101;
    constexpr std::uint64_t high_bits = ones * 0x80;
    for (; end - position >= 8; position += 8) {
        std::uint64_t word;
        std::memcpy(&word, position, sizeof word);
        const std::uint64_t deletes = word ^ (ones * 0x7f);
        const std::uint64_t found =
            ((word - ones * 0x20) & ~word & high_bits) | ((deletes - ones) & ~deletes & high_bits);
        if (found == 0) continue;
        // A borrow goes upwards only: below the lowest byte found, none is found wrongly.
        if constexpr (std::endian::native == std::endian::little) {
            return position + std::countr_zero(found) / 8;
        }
        while (is(*position, field_character)) ++position;
        return position;
    }
    return position;
}

/// As find_control_by_word(), with sixteen bytes where the machine is known to have them.
inline const char* find_control(const char* position, const char* end) noexcept {
#if defined(__SSE2__)
    for (; end - position >= 16; position += 16) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(position));
        // Unsigned "at most 0x1f": the larger of both is 0x1f.
        const __m128i bound = _mm_set1_epi8(0x1f);
        const __m128i low = _mm_cmpeq_epi8(_mm_max_epu8(bytes, bound), bound);
        const __m128i deletes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
        const auto found = static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(low, deletes)));
        if (found != 0) return position + std::countr_zero(found);
    }
#endif
    return find_control_by_word(position, end);
}

/// The first byte in [at, end) that a line may not hold, or `end`: a control character, which the
/// end of the line is one of. HTAB counts as none.
inline const char* skip_text(const char* position, const char* end) noexcept {
    while (true) {
        position = find_control(position, end);
        while (position != end && is(*position, field_character)) {  // HTAB, or one of the last few
            ++position;
            if (end - position >= 8) break;
        }
        if (position == end || !is(*position, field_character)) return position;
    }
}

/// The first byte in [at, end) that is not in a token, or `end`.
inline const char* skip_name(const char* position, const char* end) noexcept {
#if defined(__SSE2__)
    // Names are letters and hyphens. A byte in a letter's place is one, in either case, if with bit
    // 5 set it is in 'a' to 'z'; taking 'a' off leaves those below 26, unsigned.
    if (end - position >= 16) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(position));
        const __m128i lower = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
        const __m128i offset = _mm_sub_epi8(lower, _mm_set1_epi8('a'));
        const __m128i bound = _mm_set1_epi8('z' - 'a');
        const __m128i letters = _mm_cmpeq_epi8(_mm_max_epu8(offset, bound), bound);
        const __m128i hyphens = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('-'));
        const auto plain = static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(letters, hyphens)));
        position += std::countr_one(plain);
    }
#endif
    while (position != end && is(*position, token_character)) ++position;
    return position;
}

}  // namespace httpd::detail
