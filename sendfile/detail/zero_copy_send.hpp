// zero_copy_send.hpp: a send whose memory the kernel uses until its zero-copy notification.
#pragma once

#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/fixed_buffer_pool.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/work.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

namespace kevring::detail {

/// The window of a transfer without a copy: a buffer registered with the ring, or plain memory if
/// none is available.
///
/// Thread     The loop's thread.
class zero_copy_window {
public:
    /// Errors     Throws std::bad_alloc.
    explicit zero_copy_window(ring& loop)
        : fixed_(loop.service<fixed_buffer_pool>().try_acquire()),
          plain_(fixed_ ? window_buffer() : window_buffer(window_buffer::size_class::window)) {}

    std::span<std::byte> bytes() const noexcept { return fixed_ ? fixed_.bytes() : plain_.bytes(); }
    /// Null: plain memory.
    const fixed_buffer* fixed() const noexcept { return fixed_ ? &fixed_ : nullptr; }

private:
    static_assert(fixed_buffer_pool_options().buffer_bytes == window_bytes);
    const fixed_buffer fixed_;
    const window_buffer plain_;
};

/// One send without a copy. The kernel posts two completions: the number of bytes accepted, and later
/// the notification that the memory is free, after the peer has acknowledged the bytes.
///
/// Lifetime   Shares the window that contains the bytes. After detach() it lives until the
///            notification, so that a transfer can end while a peer is silent.
/// Thread     The loop's thread.
/// Kernel     IORING_OP_SEND_ZC, Linux 6.0; IORING_SEND_ZC_REPORT_USAGE, Linux 6.2.
class zero_copy_send final : public completion, private cancel_hook, private work {
public:
    zero_copy_send(ring& loop, fd_ref socket, std::shared_ptr<zero_copy_window> window,
                   std::span<const std::byte> bytes, bool more) noexcept
        : cancel_hook(stopped),
          work(resumed),
          loop_(loop),
          socket_(socket),
          window_(std::move(window)),
          bytes_(bytes),
          more_(more) {}
    void detach() noexcept;

    class [[nodiscard]] awaiter {
    public:
        awaiter(zero_copy_send& send, bool wait_for_release) noexcept
            : send_(send), wait_for_release_(wait_for_release) {}
        bool await_ready() const noexcept {
            return wait_for_release_ ? send_.released_ : send_.sent_;
        }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter) noexcept {
            return send_.wait(waiter, scope_of(waiter), wait_for_release_);
        }
        /// The number of bytes accepted.
        result<std::size_t> await_resume() const noexcept;

    private:
        zero_copy_send& send_;
        bool wait_for_release_;
    };
    /// Starts the send, and waits for the number of bytes accepted.
    awaiter sent() noexcept { return {*this, false}; }
    /// Waits for the notification; only after sent().
    awaiter released() noexcept { return {*this, true}; }

    /// Valid after the notification: the kernel has copied the bytes.
    bool copied() const noexcept { return copied_; }

    void complete(std::int32_t res, std::uint32_t flags) noexcept override;
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    ~zero_copy_send() = default;
    bool wait(std::coroutine_handle<> waiter, cancel_scope* scope, bool wait_for_release) noexcept;
    static void stopped(cancel_hook& hook, stop_cause cause) noexcept;
    static void resumed(work& item) noexcept;

    // Constant.
    ring& loop_;
    const fd_ref socket_;
    const std::shared_ptr<zero_copy_window> window_;
    const std::span<const std::byte> bytes_;
    const bool more_;

    std::coroutine_handle<> waiter_;
    std::int32_t res_ = 0;
    stop_cause cause_ = stop_cause::none;
    bool waits_for_release_ = false;
    bool scheduled_ = false;  // the waiter resumes soon, regardless of completions
    bool begun_ = false;
    bool sent_ = false;
    bool released_ = false;
    bool copied_ = false;
    bool detached_ = false;
};

/// Calls detach().
struct zero_copy_detacher {
    void operator()(zero_copy_send* send) const noexcept { send->detach(); }
};
using zero_copy_handle = std::unique_ptr<zero_copy_send, zero_copy_detacher>;

}  // namespace kevring::detail
