// deep_stack.hpp: keeps nested resumes of coroutines within a part of the stack.
//
// A coroutine that awaits or spawns another resumes it by a call, and one that ends resumes its
// awaiter by a call. A chain of such calls is as long as the program makes it. When the stack below
// ring::run_once() exceeds `stack_bytes_max`, the loop makes the call in its next iteration.
#pragma once

#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/ring.hpp>

#include <coroutine>

namespace kevring::detail {

/// Lets the loop resume `coroutine` in its next iteration. False: no memory to remember it.
[[gnu::cold]] bool resume_later(ring& loop, std::coroutine_handle<> coroutine) noexcept;

/// True: the stack is deep, and the loop resumes `coroutine`. `scope` is null for a coroutine of a
/// foreign promise type, which knows no loop.
inline bool resume_later_if_deep(cancel_scope* scope, std::coroutine_handle<> coroutine) noexcept {
    return scope != nullptr && scope->loop().stack_is_deep() &&
           resume_later(scope->loop(), coroutine);
}

/// Resumes `coroutine`: now, or where the stack is deep, in the next iteration of the loop.
inline void resume_bounded(cancel_scope* scope, std::coroutine_handle<> coroutine) noexcept {
    if (!resume_later_if_deep(scope, coroutine)) coroutine.resume();
}

}  // namespace kevring::detail
