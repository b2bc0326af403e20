// ring_options.hpp: the sizes and habits of a ring, fixed when it is made.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <chrono>

namespace kevring {

/// Lifetime   Copied by the ring.
/// Kernel     Sizes are rounded up to powers of two by io_uring_setup(2), and clamped to its
/// limits.
struct ring_options {
    /// Requests that are collected before one io_uring_enter() hands them over. When an
    /// iteration makes more the ring enters early; nothing is lost.
    unsigned submission_entries = 256;
    /// Completions that the kernel can post while the program computes. Others wait in the
    /// kernel, which costs speed, not events.
    unsigned completion_entries = 4096;
    /// How long the loop looks for work before it sleeps. Worth it for few connections that need
    /// an answer at once: it saves the 15 to 30 us of waking a sleeping core, and burns the core.
    std::chrono::microseconds spin{0};
};

}  // namespace kevring
