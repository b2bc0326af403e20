// epoll_port.hpp: a port for any number of waiting threads: one epoll set.
//
// The set is also the control file. Threads wait in the set itself: the kernel wakes one of them
// for an edge. Beside the watched descriptors the set holds an eventfd for `wake` (edge-triggered),
// one for `readable` (level-triggered) and a timerfd for `timer`.
#pragma once

#include <kevring/kevent/ports/port.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>

#include <memory>

namespace kevring::detail {

class epoll_port final : public port {
public:
    /// Errors     Throws std::system_error.
    epoll_port();

    int arm(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    int change(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    int check_pollable(int number) noexcept override;
    void disarm(int number, std::uint64_t tag) noexcept override;
    void set_readable(bool is_readable) noexcept override;
    int create_timer() noexcept override;
    int arm_timer(std::int64_t deadline_ns) noexcept override;

    int poll(std::span<edge> edges) noexcept override;
    int wait(std::span<edge> edges, const timespec* timeout) override;
    void report_again(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    void wake_one() noexcept override;

    fd_ref control() const noexcept override { return set_; }
    int release_control() noexcept override;

private:
    int change_set(int operation, int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept;

    hidden_fd set_;
    hidden_fd wake_fd_;
    hidden_fd readable_fd_;
    hidden_fd timer_fd_;
    bool is_readable_ = false;
};

}  // namespace kevring::detail
