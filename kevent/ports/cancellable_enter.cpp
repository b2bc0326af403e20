// cancellable_enter.cpp: see cancellable_enter.hpp.
#include <kevring/kevent/ports/cancellable_enter.hpp>

#include <kevring/runtime/detail/uring.hpp>

#include <cerrno>
#include <cstddef>

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace kevring::detail {

// The C library does the same for its own cancellation points: while the type is asynchronous, its
// signal unwinds the stack from any instruction. So this function has nothing to clean up, and is
// built without the instrumentation of the thread sanitizer, which cleans up in every function: the
// unwinder takes an instruction that is no call for an error where there is a table of clean-ups.
#if defined(__clang__) && __has_attribute(disable_sanitizer_instrumentation)
__attribute__((noinline, disable_sanitizer_instrumentation))
#else
__attribute__((noinline, no_sanitize_thread))
#endif
int cancellable_enter(int ring_number, unsigned submit_count, const io_uring_getevents_arg& wait) {
    int type_before = PTHREAD_CANCEL_DEFERRED;
    ::pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type_before);
    const long result =
        ::syscall(__NR_io_uring_enter, ring_number, submit_count, 1U,
                  IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &wait, sizeof wait);
    ::pthread_setcanceltype(type_before, nullptr);
    return result < 0 ? -errno : static_cast<int>(result);
}

}  // namespace kevring::detail
