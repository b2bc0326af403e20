// call_guard.hpp: the common part of all calls of the C interface.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <cerrno>

#include <pthread.h>

namespace kevring::detail {

/// For the length of a call: errno is afterwards what it was before, and a pthread_cancel() of this
/// thread is put off, but for where the call waits (cancellation_point).
class call_guard {
public:
    call_guard() noexcept : errno_(errno), outer_state_(state_before_) {
        ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state_before_);
    }
    call_guard(const call_guard&) = delete;
    call_guard& operator=(const call_guard&) = delete;
    ~call_guard() {
        ::pthread_setcancelstate(state_before_, nullptr);
        state_before_ = outer_state_;
        errno = errno_;
    }

private:
    friend class cancellation_point;
    static inline thread_local int state_before_ = PTHREAD_CANCEL_DISABLE;

    const int errno_;
    const int outer_state_;  // of the call that a signal handler has interrupted
};

/// Within a call: a cancel that was put off happens, if the program allows it.
class cancellation_point {
public:
    cancellation_point() noexcept { ::pthread_setcancelstate(call_guard::state_before_, &inside_); }
    cancellation_point(const cancellation_point&) = delete;
    cancellation_point& operator=(const cancellation_point&) = delete;
    ~cancellation_point() { ::pthread_setcancelstate(inside_, nullptr); }

private:
    int inside_ = PTHREAD_CANCEL_DISABLE;
};

}  // namespace kevring::detail
