// zero_copy_send.hpp: a send whose memory belongs to the kernel until it says that it is done.
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

/// The window of a transfer without a copy: a buffer that is registered with the ring, or plain
/// memory where none is to be had.
///
/// Thread     The ring's own.
class zero_copy_window {
public:
    /// Errors     Throws std::bad_alloc.
    explicit zero_copy_window(ring& on)
        : fixed_(on.service<fixed_buffer_pool>().take()),
          plain_(fixed_ ? window_buffer() : window_buffer(window_buffer::size_class::window)) {}

    std::span<std::byte> bytes() const noexcept { return fixed_ ? fixed_.bytes() : plain_.bytes(); }
    /// Null: it is plain memory.
    const fixed_buffer* fixed() const noexcept { return fixed_ ? &fixed_ : nullptr; }

private:
    static_assert(fixed_buffer_pool_options().buffer_bytes == window_bytes);
    const fixed_buffer fixed_;
    const window_buffer plain_;
};

/// One send without a copy. The kernel answers twice: how much it has taken, then, maybe much
/// later, that the memory is free again: when the peer has acknowledged the bytes.
///
/// Lifetime   Holds the window that the bytes are in. detach() at the end: what the kernel still
///            needs lives on by itself, so that a transfer can end while a peer is silent.
/// Thread     The ring's own.
/// Kernel     IORING_OP_SEND_ZC, Linux 6.0; IORING_SEND_ZC_REPORT_USAGE, Linux 6.2.
class zero_copy_send final : public completion, private cancel_hook, private work {
public:
    zero_copy_send(ring& on, fd_ref socket, std::shared_ptr<zero_copy_window> window,
                   std::span<const std::byte> bytes, bool more) noexcept
        : cancel_hook(stopped),
          work(resumed),
          ring_(on),
          socket_(socket),
          window_(std::move(window)),
          bytes_(bytes),
          more_(more) {}
    void detach() noexcept;

    class [[nodiscard]] step {
    public:
        step(zero_copy_send& of, bool until_released) noexcept
            : of_(of), until_released_(until_released) {}
        bool await_ready() const noexcept { return until_released_ ? of_.released_ : of_.sent_; }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter) noexcept {
            return of_.wait(waiter, scope_of(waiter), until_released_);
        }
        /// The bytes taken, of either step.
        result<std::size_t> await_resume() const noexcept;

    private:
        zero_copy_send& of_;
        bool until_released_;
    };
    /// Begins, and waits until the kernel has taken bytes.
    step sent() noexcept { return {*this, false}; }
    /// Waits until the memory is free; only after sent().
    step released() noexcept { return {*this, true}; }

    /// Known once the memory is free: the kernel made a copy after all.
    bool copied() const noexcept { return copied_; }

    void complete(std::int32_t res, std::uint32_t flags) noexcept override;
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    ~zero_copy_send() = default;
    bool wait(std::coroutine_handle<> waiter, cancel_scope* scope, bool until_released) noexcept;
    static void stopped(cancel_hook& hook, stop_cause cause) noexcept;
    static void resumed(work& item) noexcept;

    // Constant.
    ring& ring_;
    const fd_ref socket_;
    const std::shared_ptr<zero_copy_window> window_;
    const std::span<const std::byte> bytes_;
    const bool more_;

    std::coroutine_handle<> waiter_;
    std::int32_t res_ = 0;
    stop_cause cause_ = stop_cause::none;
    bool waits_for_release_ = false;
    bool scheduled_ = false;  // the waiter runs soon, whatever the kernel says
    bool begun_ = false;
    bool sent_ = false;
    bool released_ = false;
    bool copied_ = false;
    bool detached_ = false;
};

/// Detaches at the end.
struct zero_copy_detacher {
    void operator()(zero_copy_send* of) const noexcept { of->detach(); }
};
using zero_copy_handle = std::unique_ptr<zero_copy_send, zero_copy_detacher>;

}  // namespace kevring::detail
