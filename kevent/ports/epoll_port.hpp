// epoll_port.hpp: a port for any number of waiting threads: one epoll set.
//
// The set is also the control file. Beside the watched descriptors it holds an eventfd for `wake`
// (edge-triggered), one for `readable` (level-triggered) and a timerfd for `timer`.
//
// wait() is ppoll(2) of the set: that ends for signal handlers only, where epoll_wait(2) fails with
// EINTR after SIGCONT too, and it consumes nothing, so a cancelled thread loses no edge. While
// `readable` is set, wait() polls a second set instead, which holds the first one edge-triggered.
#pragma once

#include <kevring/kevent/ports/port.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>

#include <atomic>

namespace kevring::detail {

class epoll_port final : public port {
public:
    /// Errors     Throws std::system_error.
    epoll_port();

    std::string_view name() const noexcept override { return "epoll"; }
    int arm(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    int change(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    int check_pollable(int number) noexcept override;
    void disarm(int number, std::uint64_t tag) noexcept override;
    void set_readable(bool is_readable) noexcept override;
    int create_timer() noexcept override;
    int arm_timer(std::int64_t deadline_ns) noexcept override;

    int poll(std::span<edge> edges) noexcept override;
    int wait(const timespec* timeout) override;
    void report_again(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    void wake_one() noexcept override;

    fd_ref control() const noexcept override { return set_; }
    int release_control() noexcept override;

private:
    int wait_for_edge(const timespec* timeout);
    int change_set(int operation, int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept;

    hidden_fd set_;
    hidden_fd wake_fd_;
    hidden_fd readable_fd_;
    hidden_fd timer_fd_;
    hidden_fd edge_set_;  // created by the first wait() while `readable` is set
    std::atomic<bool> is_readable_{false};
};

}  // namespace kevring::detail
