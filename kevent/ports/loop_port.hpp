// loop_port.hpp: a port whose watched descriptors are requests of a loop's own ring.
//
// Each watched descriptor is one multishot poll of the loop that awaits the queue. A completion
// records the bits and wakes the tasks that wait, by the loop's run queue: an event costs no system
// call beyond the loop's own enter. The earliest deadline is a timer of the loop.
//
// The loop alone queues requests. A change by another thread is recorded, and the loop's mailbox
// carries it there. A poll is submitted as soon as it is queued: the kernel then holds the file, and
// the number may be closed.
//
// A queue changes its carrier:
//
//   none    no task has awaited it, or the loop has ended; nothing is armed
//   loop    after attach(); it moves to another loop when no task waits
//   epoll   after poll() without a loop, until attach(); after share() for good
//
// With a new carrier each descriptor is armed again, and so reports once more the bits that are set.
#pragma once

#include <kevring/kevent/detail/readiness_watch.hpp>
#include <kevring/kevent/ports/epoll_port.hpp>
#include <kevring/kevent/ports/port.hpp>

#include <cstdint>
#include <memory>

namespace kevring {
class ring;
}

namespace kevring::detail {

class loop_port final : public port {
public:
    /// Throws std::bad_alloc.
    loop_port();
    ~loop_port() override;

    std::string_view name() const noexcept override { return "loop"; }

    int arm(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    int change(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    int check_pollable(int number) noexcept override;
    void disarm(int number, std::uint64_t tag) noexcept override;
    void set_readable(bool is_readable) noexcept override;
    int create_timer() noexcept override;
    int arm_timer(std::int64_t deadline_ns) noexcept override;

    void update() noexcept override;
    int poll(std::span<edge> edges) noexcept override;
    /// With the carrier epoll only: tasks wait on waits().
    int wait(const timespec* timeout) override;
    void report_again(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    void wake_one() noexcept override;

    /// With the carrier epoll only.
    fd_ref control() const noexcept override;
    int release_control() noexcept override;

    // Under the queue's lock.

    /// Moves the descriptors to `loop`, which the calling thread drives or no thread has driven yet.
    ///
    /// Result     0, or a negative error number: -EBUSY: tasks wait on another loop, or that one
    ///            belongs to another thread; -ECANCELED: `loop` is being destroyed; -EXDEV: after
    ///            share().
    int attach(ring& loop) noexcept;
    /// Moves the descriptors to an epoll set, for good: several loops then wait on control().
    ///
    /// Result     0, or a negative error number, and then nothing has changed.
    int share() noexcept;
    bool is_shared() const noexcept { return is_shared_; }

    /// Where tasks of `loop` wait for edges and wake-ups; null: the carrier is not `loop`. Valid
    /// until the caller returns to its loop.
    ///
    /// Thread     That of `loop`, without the queue's lock.
    readiness_watch* waits(const ring& loop) const noexcept;

private:
    class attachment;
    class attachments;
    struct request;
    struct slot;
    struct state;

    attachment* attachment_here() const noexcept;
    int open_epoll(std::unique_ptr<epoll_port>& opened) noexcept;
    int apply(std::uint32_t index) noexcept;
    void detach() noexcept;

    const std::shared_ptr<state> state_;

    // Guarded by the queue's lock; written also under the state's mutex.
    std::unique_ptr<epoll_port> epoll_;
    // Guarded by the queue's lock.
    bool is_shared_ = false;
    bool is_readable_ = false;
    bool has_timer_ = false;
};

}  // namespace kevring::detail
