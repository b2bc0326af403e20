// multishot.hpp: one request of the kernel that answers many times; the base of all streams.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/frame_pool.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/work.hpp>

#include <coroutine>
#include <cstdint>
#include <utility>

namespace kevring {

class multishot_stream;

namespace detail {

class next_awaiter;

/// The target of the completions, apart from the stream that a program holds: it lives until the
/// final completion, also after the stream was destroyed.
///
/// Invariants  (1) At most one request is in flight. It ends without notice (no
///                 IORING_CQE_F_MORE), and is armed again by the next wait.
///             (2) Items are kept, in order, until they are taken; a stop ends a wait, not the
///                 request, and so loses none.
///             (3) When no task takes the items, the request is ended, and the kernel applies
///                 back-pressure to the peer.
///             (4) A wait never ends while its request is queued and not submitted: a stop takes
///                 the request back. The descriptor can be closed as soon as no wait is pending.
/// Thread      The ring's own.
class multishot_state : public completion {
public:
    explicit multishot_state(ring& loop) noexcept : loop_(loop) {}
    multishot_state(const multishot_state&) = delete;
    multishot_state& operator=(const multishot_state&) = delete;

    static void* operator new(std::size_t bytes) { return allocate_frame(bytes); }
    static void operator delete(void* state, std::size_t bytes) noexcept {
        free_frame(state, bytes);
    }

    void complete(std::int32_t res, std::uint32_t flags) noexcept final;

    /// The stream is destroyed: ends the request, then deletes this.
    void detach() noexcept;

    /// Ends the request for good. Items that arrived before its final completion can still be
    /// taken; after them a wait ends with operation_canceled.
    void close() noexcept;

    /// Ends the wait that is pending, as a stop of its scope does.
    void stop_wait() noexcept;
    bool has_waiter() const noexcept { return waiter_ != nullptr; }

    virtual bool has_item() const noexcept = 0;
    ring& loop() const noexcept { return loop_; }

protected:
    virtual ~multishot_state() = default;

    /// Stores the item of a completion that is no failure, and returns the buffer of a failed one.
    virtual void store_item(std::int32_t res, std::uint32_t flags) noexcept = 0;
    /// Gives up what is kept, and what arrives from here on as soon as it arrives.
    virtual void drop_items() noexcept = 0;
    /// True when so much is kept that the kernel must hold back the rest.
    virtual bool is_full() const noexcept = 0;
    /// Says whether a failure is one to wait out rather than report.
    virtual bool is_transient(std::int32_t res) noexcept;
    /// Says whether the request can be armed now; false: arm_for_waiter() will be called.
    virtual bool may_arm() noexcept { return true; }
    /// Takes back what may_arm() has begun: no task waits any more.
    virtual void cancel_pending_arm() noexcept {}
    /// Called before the request is armed for a wait. True: there is an item now, or an error that
    /// fail() has set, and no request is needed.
    virtual bool fetch() noexcept { return false; }
    void fail(std::int32_t error) noexcept { error_ = error; }
    /// True when the request in flight must be replaced by one of another kind.
    virtual bool is_outgrown() const noexcept { return false; }
    /// The failure, a negated errno, of every wait from here on that would need the request; 0 as
    /// long as it can be armed.
    virtual std::int32_t arming_error() const noexcept { return 0; }
    /// The request has been queued. One disarmed() follows, when the kernel has answered for the
    /// last time or the request has been taken back.
    virtual void armed() noexcept {}
    virtual void disarmed() noexcept {}

    /// Arms the request for the wait that is pending, if there is one.
    void arm_for_waiter() noexcept;

private:
    friend class next_awaiter;
    bool waits_for_kernel() const noexcept;
    bool arm() noexcept;
    void request_ended() noexcept;
    void withdraw() noexcept;

    ring& loop_;
    next_awaiter* waiter_ = nullptr;   // the wait that is pending
    next_awaiter* leaving_ = nullptr;  // stopped waits, which resume in the next iteration
    std::int32_t error_ = 0;           // a failure that was not reported yet
    unsigned entry_index_ = 0;         // of the request in the submission queue
    bool armed_ = false;               // a request is in flight
    bool pausing_ = false;             // ... and is being ended because no task takes the items
    bool finished_ = false;            // ... and is never armed again
    bool detached_ = false;
};

/// One wait for the next item of a stream.
///
/// Lifetime   Lives in the awaiting coroutine's frame. It may outlive the stream once it has been
///            stopped; it ends with operation_canceled then.
class next_awaiter : private cancel_hook, private work {
public:
    /// `state` is null where the stream has been moved from.
    explicit next_awaiter(multishot_state* state) noexcept
        : cancel_hook(stopped), work(resume_scheduled), state_(state) {}
    /// Moves a wait that has not begun, into the frame that will await it.
    next_awaiter(next_awaiter&& other) noexcept
        : cancel_hook(stopped), work(resume_scheduled), state_(other.state_) {
        KEVRING_ASSERT(!other.waiter_,
                       "next item moved after it was awaited; keep it where it was awaited");
    }
    next_awaiter& operator=(next_awaiter&&) = delete;

    bool await_ready() const noexcept {
        return has_item() && state_->waiter_ == nullptr && state_->loop_.spend_inline_budget();
    }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter) noexcept {
        return start(waiter, scope_of(waiter));
    }
    /// Called instead of await_resume(): leaves the item, or the failure, to the next wait. False:
    /// there is neither, because this wait was stopped.
    bool leave() noexcept;

protected:
    ~next_awaiter() = default;
    /// Only where there is an item.
    multishot_state& state() const noexcept { return *state_; }
    bool has_item() const noexcept { return state_ != nullptr && state_->has_item(); }
    tl::unexpected<std::error_code> failure() const noexcept;

private:
    friend class multishot_state;
    bool start(std::coroutine_handle<> waiter, cancel_scope* scope) noexcept;
    bool schedule_item(std::coroutine_handle<> waiter) noexcept;
    void resume() noexcept;
    void leave_state() noexcept;
    static void stopped(cancel_hook& hook, stop_cause cause) noexcept;
    static void resume_scheduled(work& item) noexcept;

    multishot_state* state_;
    next_awaiter* next_leaving_ = nullptr;
    std::coroutine_handle<> waiter_;
    std::int32_t error_ = 0;
    stop_cause cause_ = stop_cause::none;
    bool scheduled_ = false;  // is in the run queue
};

}  // namespace detail

/// The base of streams: owns the state that the kernel answers to.
///
/// A stream that was moved from gives bad_file_descriptor.
class multishot_stream {
public:
    multishot_stream(multishot_stream&& from) noexcept
        : state_(std::exchange(from.state_, nullptr)) {}
    multishot_stream& operator=(multishot_stream&& from) noexcept {
        if (this != &from) {
            if (state_ != nullptr) state_->detach();
            state_ = std::exchange(from.state_, nullptr);
        }
        return *this;
    }

protected:
    using next_base = detail::next_awaiter;
    explicit multishot_stream(detail::multishot_state* state) noexcept : state_(state) {}
    ~multishot_stream() {
        if (state_ != nullptr) state_->detach();
    }

    detail::multishot_state* state_;
};

}  // namespace kevring
