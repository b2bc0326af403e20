// event_signal.cpp: see event_signal.hpp.
#include <kevring/kevent/ports/event_signal.hpp>

#include <kevring/kevent/ports/kernel_probe.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/detail/uring.hpp>

#include <cerrno>
#include <cstdint>
#include <optional>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace kevring::detail {
namespace {

// Polls a pipe and writes to it. An eventfd as the source would not do: every kernel defers the
// signal of one eventfd that is caused by a write to another.
std::optional<bool> find_out() noexcept {
    io_uring ring{};
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    if (io_uring_queue_init_params(2, &ring, &params) < 0) return std::nullopt;
    int other_end = -1;
    const hidden_fd read_end = hidden_fd::open([&other_end]() noexcept {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return -1;
        other_end = ends[1];
        return ends[0];
    });
    const hidden_fd write_end = hidden_fd::open([other_end]() noexcept { return other_end; });
    const hidden_fd event =
        hidden_fd::open([]() noexcept { return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); });
    std::optional<bool> is_late;
    if (read_end && write_end && event && io_uring_register_eventfd(&ring, event.number()) == 0) {
        io_uring_prep_poll_add(io_uring_get_sqe(&ring), read_end.number(), POLLIN);
        std::uint64_t count = 0;
        if (io_uring_submit(&ring) == 1 && ::write(write_end.number(), "", 1) == 1)
            is_late = ::read(event.number(), &count, sizeof count) < 0 && errno == EAGAIN;
    }
    io_uring_queue_exit(&ring);
    return is_late;
}

}  // namespace

bool signals_event_late() noexcept {
    static constinit kernel_probe probe(find_out);
    return probe.holds();
}

}  // namespace kevring::detail
