// connection_timeout.hpp: the deadline of what a client does next.
#pragma once

#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/timer_queue.hpp>

#include <chrono>
#include <cstdint>

namespace httpd {

/// Stops a scope at a deadline, or if the client receives too little. To move the deadline later
/// costs a store: the timer reads it when it fires, and is only then armed again.
class connection_timeout final : private kevring::timer_node {
public:
    connection_timeout(kevring::ring& loop, kevring::cancel_scope& scope,
                       kevring::fd_ref client) noexcept
        : timer_node(fired), loop_(loop), scope_(scope), client_(client) {}
    ~connection_timeout() { loop_.timers().disarm(*this); }

    void set(std::int64_t deadline_ns) noexcept {
        deadline_ns_ = deadline_ns;
        step_ns_ = 0;
        if (armed() && timer_node::deadline_ns() <= deadline_ns) return;
        loop_.timers().disarm(*this);
        loop_.timers().arm(*this, deadline_ns);
    }

    /// Instead of a deadline: in every `step` the client must acknowledge `bytes` more. The count
    /// starts at the end of the first step, so a client that stops is disconnected after two. If
    /// the kernel does not count, as for a Unix socket, the limit is `fallback_limit` in all, and
    /// the time for the bytes that were queued in the socket before.
    void set_rate(std::chrono::nanoseconds step, std::uint64_t bytes,
                  std::chrono::nanoseconds fallback_limit) noexcept {
        set(kevring::add_ns(loop_.now_ns(), step));
        fallback_deadline_ns_ = kevring::add_ns(loop_.now_ns(), fallback_limit);
        step_ns_ = step.count();
        step_bytes_ = bytes;
        wanted_ = 0;
    }

private:
    bool made_progress() noexcept;
    static void fired(kevring::timer_node& node) noexcept;

    kevring::ring& loop_;
    kevring::cancel_scope& scope_;
    kevring::fd_ref client_;
    std::int64_t deadline_ns_ = 0;
    std::int64_t step_ns_ = 0;               // 0: deadline_ns_ is final
    std::int64_t fallback_deadline_ns_ = 0;  // if the kernel does not count
    std::uint64_t step_bytes_ = 0;
    std::uint64_t wanted_ = 0;  // bytes of the connection to be acknowledged by the next check
};

}  // namespace httpd
