// assert.hpp: the assertion macros.
//
// KEVRING_ASSERT stays on in release builds: the mistakes that it finds (a frame destroyed while
// the kernel holds its address, a call from the wrong thread) corrupt memory if they pass unseen.
// KEVRING_ASSERT_SLOW walks structures; it is on where KEVRING_SLOW_ASSERTIONS is defined.
//
// The text is a literal of the form "mistake; remedy", in words of the caller. docs/assertions.md
// lists every text with its cause. A text that begins with "internal error: " marks a fault of the
// library.
#pragma once

#include <kevring/runtime/detail/language.hpp>

namespace kevring::detail {

/// A place in the caller's source: the default argument of a call is the place of that call.
struct call_site {
    const char* file = nullptr;
    unsigned line = 0;

    static constexpr call_site current(const char* file = __builtin_FILE(),
                                       unsigned line = __builtin_LINE()) noexcept {
        return {file, line};
    }
};

/// The assertion itself, as the macro found it.
struct assertion {
    const char* text;
    const char* condition;
    const char* file;
    int line;
    const char* function;
};

/// Prints the text, the place of the caller where it is known, and the assertion; then aborts.
[[noreturn, gnu::cold]] void assertion_failed(const assertion& failed,
                                              const call_site& caller = {}) noexcept;

}  // namespace kevring::detail

/// Aborts with `text` unless `condition` holds.
#define KEVRING_ASSERT(condition, text) KEVRING_ASSERT_AT(condition, text, {})

/// The same for an operation that was begun at `site`, a kevring::detail::call_site.
#define KEVRING_ASSERT_AT(condition, text, site)          \
    (__builtin_expect(static_cast<bool>(condition), true) \
         ? static_cast<void>(0)                           \
         : ::kevring::detail::assertion_failed(           \
               {"" text, #condition, __FILE__, __LINE__, __func__}, site))

#ifdef KEVRING_SLOW_ASSERTIONS
#define KEVRING_ASSERT_SLOW(condition, text) KEVRING_ASSERT(condition, text)
#else
#define KEVRING_ASSERT_SLOW(condition, text) static_cast<void>(0)
#endif
