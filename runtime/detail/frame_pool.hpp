// frame_pool.hpp: memory for coroutine frames, kept warm for the next one of the same size.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <array>
#include <cstddef>

// Under AddressSanitizer every frame is fresh, or a use after its end would pass unseen.
#if defined(__SANITIZE_ADDRESS__)
#define KEVRING_RECYCLE_FRAMES 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEVRING_RECYCLE_FRAMES 0
#endif
#endif
#ifndef KEVRING_RECYCLE_FRAMES
#define KEVRING_RECYCLE_FRAMES 1
#endif

namespace kevring::detail {

// With the 8 bytes that malloc() uses itself, each size is a multiple of its step of 16: no memory
// lies between frames.
inline constexpr std::size_t frame_step_bytes = 32;
inline constexpr std::size_t frame_class_count = 128;  // so frames up to 4 KiB are kept
inline constexpr std::size_t frame_own_bytes = 8;      // of malloc()

constexpr std::size_t frame_class(std::size_t bytes) noexcept {
    return (bytes + frame_own_bytes - 1) / frame_step_bytes;
}
constexpr std::size_t frame_class_bytes(std::size_t index) noexcept {
    return (index + 1) * frame_step_bytes - frame_own_bytes;
}

struct idle_frame {
    idle_frame* next;
    std::size_t count;  // of this one and those behind it
};

/// The idle frames of a thread, by class. Constant-initialized and trivially destroyed: an access
/// needs no check whether it exists.
struct idle_frames {
    std::array<idle_frame*, frame_class_count> first{};
    bool alive = false;  // from the first frame of the thread until the thread ends
};

#if KEVRING_RECYCLE_FRAMES
// A burst gives memory back: no more are kept of one class.
inline constexpr std::size_t frames_kept_max = 1024;

// initial-exec: without it, a shared library calls a function for each access.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local idle_frames frames;
#endif

/// Memory that was no frame before; this thread is ready to keep it after its use.
void* allocate_fresh_frame(std::size_t bytes);
void free_frame_memory(void* frame) noexcept;

// Hot path: both are inlined into a coroutine, where the size is constant.

/// Memory for one frame. Small frames come from a free list of this thread.
///
/// Errors     std::bad_alloc.
/// Thread     Any; a frame may be freed on another thread than the one that allocated it.
inline void* allocate_frame(std::size_t bytes) {
#if KEVRING_RECYCLE_FRAMES
    const std::size_t index = frame_class(bytes);
    if (index < frame_class_count) [[likely]] {
        idle_frame*& first = frames.first[index];
        if (idle_frame* const frame = first) [[likely]] {
            first = frame->next;
            return frame;
        }
    }
#endif
    return allocate_fresh_frame(bytes);
}

inline void free_frame(void* memory, std::size_t bytes) noexcept {
#if KEVRING_RECYCLE_FRAMES
    const std::size_t index = frame_class(bytes);
    if (index < frame_class_count && frames.alive) [[likely]] {
        idle_frame*& first = frames.first[index];
        const std::size_t count = first != nullptr ? first->count : 0;
        if (count < frames_kept_max) [[likely]] {
            auto* const frame = static_cast<idle_frame*>(memory);
            frame->next = first;
            frame->count = count + 1;
            first = frame;
            return;
        }
    }
#else
    static_cast<void>(bytes);
#endif
    free_frame_memory(memory);
}

}  // namespace kevring::detail
