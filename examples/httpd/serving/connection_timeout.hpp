// connection_timeout.hpp: the time that a client has.
#pragma once

#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/timer_queue.hpp>

#include <chrono>
#include <cstdint>

namespace httpd {

/// The time that a client has for what it is to do next. Moving it later costs a store: the timer
/// looks at the deadline when it fires, and only then is armed anew.
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

    /// Instead of a deadline: every `step` the client must have taken `bytes` more, however much
    /// there is to send. The count begins with the first step's end, so that a client has two for
    /// the first bytes. Where nobody counts what a client takes, as with a Unix socket, it has
    /// `uncounted` in all, and as long as it may take for what waits in the socket before that.
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
    std::int64_t step_ns_ = 0;               // 0: the deadline is one
    std::int64_t fallback_deadline_ns_ = 0;  // the deadline instead, where nobody counts
    std::uint64_t step_bytes_ = 0;
    std::uint64_t wanted_ = 0;  // bytes of the connection that must be taken by the next look
};

}  // namespace httpd
