// ring_wake.cpp: waking a loop, and the descriptor for a loop of another library.
#include <kevring/runtime/ring.hpp>

#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/detail/ring_state.hpp>
#include <kevring/runtime/detail/uring.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <system_error>

#include <sys/eventfd.h>
#include <unistd.h>

namespace kevring {

using detail::ring_failed;

int ring::native_handle() {
    if (const int existing = event_fd_.load(std::memory_order_relaxed); existing >= 0)
        return existing;
    claim();
    int made = detail::above_standard(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    int error = made < 0 ? errno : 0;
    if (error == 0) {
        error = -register_resource(IORING_REGISTER_EVENTFD, &made, 1);
        if (error > 0) ::close(made);
    }
    if (error > 0)
        throw std::system_error(error, std::system_category(),
                                "kevring: a descriptor for ring::native_handle()");
    // release: pairs with the acquire in wake(), which writes to the descriptor.
    event_fd_.store(made, std::memory_order_release);
    // seq_cst: pairs with the fence in wake(). Work that is posted at that time is seen by
    // reset_event_fd(), or the thread that posts it sees the descriptor.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    // A run() has left it awake: a post() would signal nothing.
    if (!in_iteration_ && !closing_) mark_asleep();
    reset_event_fd();
    return made;
}

// Makes the descriptor readable if and only if there is work. The kernel publishes a completion
// before it signals the eventfd: an event whose signal is read here is seen by has_work().
[[gnu::cold]] void ring::reset_event_fd() noexcept {
    const int saved_errno = errno;
    int event_fd = event_fd_.load(std::memory_order_relaxed);
    bool is_registered = true;
    if (event_fd_completions_ != counters_.completions.get()) {
        // A request that another eventfd wakes cannot signal this one at once, and Linux 6.18
        // signals it later only once for each registration.
        register_resource(IORING_UNREGISTER_EVENTFD, nullptr, 0);
        is_registered = register_resource(IORING_REGISTER_EVENTFD, &event_fd, 1) >= 0;
        if (is_registered) event_fd_completions_ = counters_.completions.get();
    }
    std::uint64_t count = 0;
    static_cast<void>(!::read(event_fd, &count, sizeof count));  // EAGAIN: it was not readable
    if (!is_registered || has_work()) {  // without memory to register it the next iteration tries
        count = 1;
        static_cast<void>(!::write(event_fd, &count, sizeof count));
    }
    errno = saved_errno;
}

bool ring::has_work() const noexcept {
    return ready_first_ != nullptr || !saved_.empty() || unsubmitted() != 0 ||
           completions_ready() || kernel_has_work() || has_posted() ||
           timers_.next_deadline_ns() <= now_ns() || system_.holds_completions(*uring_);
}

steady_time ring::next_deadline() const noexcept {
    return steady_time(nanoseconds(timers_.next_deadline_ns()));
}

int ring::poll_timeout_ms() const noexcept {
    constexpr std::int64_t millisecond_ns = 1'000'000;
    if (has_work()) return 0;
    const std::int64_t next_ns = timers_.next_deadline_ns();
    if (next_ns == never_ns) return -1;
    const std::int64_t wait_ns = next_ns - now_ns();
    if (wait_ns <= 0) return 0;
    return static_cast<int>(std::min<std::int64_t>((wait_ns - 1) / millisecond_ns + 1, INT_MAX));
}

// Called on any thread.
[[gnu::cold]] void ring::wake() noexcept {
    wakes_sent_.fetch_add(1, std::memory_order_relaxed);
    const std::uint64_t one = 1;
    const int saved_errno = errno;
    // seq_cst: pairs with the fence in native_handle(); the work is posted before it.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    // A foreign loop that polls it is woken by this alone; the ring may as well sleep in
    // run_once().
    if (const int event_fd = event_fd_.load(std::memory_order_acquire); event_fd >= 0)
        static_cast<void>(!::write(event_fd, &one, sizeof one));
    errno = saved_errno;
    if (wake_by_message_) {
        io_uring_sqe message{};
        message.opcode = IORING_OP_MSG_RING;
        message.fd = uring_->ring_fd;
        message.off = detail::user_data_wake;
        int sent = -ENOMEM;  // a message needs memory of the kernel's, and losing it is no option
        while (sent == -ENOMEM || sent == -EAGAIN)
            sent = system_.ring_register(*uring_, detail::register_send_msg_ring, &message, 1);
        if (sent < 0 && sent != -EOVERFLOW)  // an overflowing queue wakes as well
            ring_failed("io_uring_register", -sent);
        return;
    }
    // EAGAIN means that the counter is at its end: then the poll has fired long ago.
    static_cast<void>(!::write(wake_fd_, &one, sizeof one));
    errno = saved_errno;
}

}  // namespace kevring
