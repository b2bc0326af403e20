// word_copy.hpp: copies to and from memory that another thread may be writing or reading, by
// relaxed atomic words.
//
// A thread that copies out checks afterwards whether another thread wrote concurrently, and then
// drops the copy; so words need not be whole, but the program must still have a meaning. Atomic
// words give it one. On x86-64 the same is done 64 bytes at a time by instructions that the
// compiler does not look into, at half the cost: no load or store of that machine is weaker than
// release and acquire, and the compiler moves no other access across them. Sanitizers see the
// words.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define KEVRING_COPIES_BY_VECTORS 1
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer) || \
    __has_feature(memory_sanitizer)
#undef KEVRING_COPIES_BY_VECTORS
#endif
#endif
#endif

namespace kevring::detail {

/// Copies `count` words into shared memory.
template <class AtomicWord>
void store_words(AtomicWord* to, const std::byte* from, std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t word;
        std::memcpy(&word, from + i * sizeof(word), sizeof(word));
        to[i].store(word, std::memory_order_relaxed);  // ordered by the caller
    }
}

/// Copies `count` words out of shared memory. Word by word to the target: a record put together on
/// the stack would be loaded again in larger pieces than it was stored in, which processors are
/// slow at.
template <class AtomicWord>
void load_words(std::byte* to, const AtomicWord* from, std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t word = from[i].load(std::memory_order_relaxed);  // as above
        std::memcpy(to + i * sizeof(word), &word, sizeof(word));
    }
}

#ifdef KEVRING_COPIES_BY_VECTORS

/// Copies as many whole pieces of 64 bytes as `bytes` holds, and returns how many bytes that was.
inline std::size_t copy_pieces(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
    const std::size_t whole = bytes & ~std::size_t{63};
    for (std::size_t offset = 0; offset != whole; offset += 64) {
        asm volatile(
            "movdqu (%1), %%xmm0\n\t"
            "movdqu 16(%1), %%xmm1\n\t"
            "movdqu 32(%1), %%xmm2\n\t"
            "movdqu 48(%1), %%xmm3\n\t"
            "movdqu %%xmm0, (%0)\n\t"
            "movdqu %%xmm1, 16(%0)\n\t"
            "movdqu %%xmm2, 32(%0)\n\t"
            "movdqu %%xmm3, 48(%0)"
            :
            : "r"(to + offset), "r"(from + offset)
            : "xmm0", "xmm1", "xmm2", "xmm3", "memory");
    }
    return whole;
}

template <>
inline void store_words(std::atomic<std::uint64_t>* to, const std::byte* from,
                        std::size_t count) noexcept {
    std::size_t offset = copy_pieces(reinterpret_cast<std::byte*>(to), from, count * 8);
    for (; offset != count * 8; offset += 8) {
        std::uint64_t word;
        std::memcpy(&word, from + offset, sizeof(word));
        to[offset / 8].store(word, std::memory_order_relaxed);
    }
}

template <>
inline void load_words(std::byte* to, const std::atomic<std::uint64_t>* from,
                       std::size_t count) noexcept {
    std::size_t offset = copy_pieces(to, reinterpret_cast<const std::byte*>(from), count * 8);
    for (; offset != count * 8; offset += 8) {
        const std::uint64_t word = from[offset / 8].load(std::memory_order_relaxed);
        std::memcpy(to + offset, &word, sizeof(word));
    }
}

#undef KEVRING_COPIES_BY_VECTORS
#endif

}  // namespace kevring::detail
