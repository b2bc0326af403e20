// assert.hpp: the assertion macros.
//
// KEVRING_ASSERT stays on in release builds: what it guards (a frame destroyed while the kernel
// holds its address, a call from the wrong thread) corrupts memory when it passes unseen.
// KEVRING_ASSERT_SLOW walks structures; it is on where KEVRING_SLOW_ASSERTIONS is defined.
#pragma once

namespace kevring::detail {

/// Prints the condition and where it stands, then aborts.
[[noreturn, gnu::cold]] void assertion_failed(const char* condition, const char* file, int line,
                                              const char* function) noexcept;

}  // namespace kevring::detail

#define KEVRING_ASSERT(condition)                         \
    (__builtin_expect(static_cast<bool>(condition), true) \
         ? static_cast<void>(0)                           \
         : ::kevring::detail::assertion_failed(#condition, __FILE__, __LINE__, __func__))

#ifdef KEVRING_SLOW_ASSERTIONS
#define KEVRING_ASSERT_SLOW(condition) KEVRING_ASSERT(condition)
#else
#define KEVRING_ASSERT_SLOW(condition) static_cast<void>(0)
#endif
