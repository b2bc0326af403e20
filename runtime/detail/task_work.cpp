// task_work.cpp: see task_work.hpp.
#include <kevring/runtime/detail/task_work.hpp>

#include <kevring/runtime/detail/uring.hpp>

#include <atomic>
#include <cerrno>
#include <cstddef>

#include <sys/syscall.h>
#include <unistd.h>

namespace kevring::detail {
namespace {

// Starts at 1, so that a thread that has never asked does.
std::atomic<unsigned> rings_created{1};

thread_local unsigned asked_at = 0;  // the value of rings_created then
thread_local bool is_known = false;

// Enters a ring that is not there, by a number of those that a thread can register for itself. The
// kernel refuses the call otherwise where the thread has no such table, which it gets with its
// first request (io_uring/io_uring.c, io_uring_enter()).
bool ask() noexcept {
    constexpr unsigned last_number = 15;  // the least likely to be in use
    const int caller_errno = errno;
    const long returned = ::syscall(SYS_io_uring_enter, last_number, 0, 0,
                                    IORING_ENTER_REGISTERED_RING, nullptr, std::size_t{0});
    const bool has = returned >= 0 || errno == EBADF || errno == EBADFD;
    errno = caller_errno;
    return has;
}

}  // namespace

bool may_have_task_work() noexcept {
    if (is_known) return true;
    // relaxed: a ring that this thread uses was made before, by it or for it.
    const unsigned made = rings_created.load(std::memory_order_relaxed);
    if (asked_at == made) return false;
    asked_at = made;
    is_known = ask();
    return is_known;
}

void recheck_task_work() noexcept { asked_at = 0; }

void count_ring_created() noexcept { rings_created.fetch_add(1, std::memory_order_relaxed); }

}  // namespace kevring::detail
