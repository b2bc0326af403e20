// completion_order.cpp: see completion_order.hpp.
#include <kevring/kevent/ports/completion_order.hpp>

#include <kevring/kevent/ports/kernel_probe.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/detail/uring.hpp>

#include <array>
#include <cstdint>
#include <optional>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace kevring::detail {
namespace {

// Polls two eventfds, and writes to one after the other. Both writes come before the enter that
// delivers the completions.
std::optional<bool> find_out() noexcept {
    constexpr unsigned poll_count = 2;
    io_uring ring{};
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    if (io_uring_queue_init_params(poll_count, &ring, &params) < 0) return std::nullopt;
    std::array<hidden_fd, poll_count> events;
    bool complete = true;
    for (unsigned i = 0; i < poll_count; ++i) {
        events[i] =
            hidden_fd::open([]() noexcept { return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); });
        io_uring_sqe* const request = io_uring_get_sqe(&ring);
        complete = complete && events[i] && request != nullptr;
        if (!complete) continue;
        io_uring_prep_poll_add(request, events[i].number(), POLLIN);
        request->user_data = i;
    }
    complete = complete && io_uring_submit(&ring) == static_cast<int>(poll_count);
    const std::uint64_t one = 1;
    for (const hidden_fd& event : events)
        complete = complete && ::write(event.number(), &one, sizeof one) == sizeof one;
    io_uring_cqe* first = nullptr;
    complete = complete && io_uring_wait_cqe_nr(&ring, &first, poll_count) == 0;
    std::optional<bool> reversed;
    if (complete) reversed = first->user_data == poll_count - 1;
    io_uring_queue_exit(&ring);
    return reversed;
}

}  // namespace

bool reverses_completions() noexcept {
    static constinit kernel_probe probe(find_out);
    return probe.holds();
}

}  // namespace kevring::detail
