// once.hpp: work that several coroutines need and that is done once.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/detail/wait_list.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <exception>
#include <mutex>
#include <system_error>
#include <type_traits>
#include <utility>

namespace kevring {

/// Runs a body once; coroutines that come while it runs wait for its end.
///
///     auto connect = [&]() -> task<result<void>> { ... };
///     const auto connected = co_await connection.call(connect);
///
/// `body` is named and passed by reference because g++ 12 destroys a capturing lambda twice when it
/// is a temporary in a co_await expression.
///
/// Result     Nothing, once a body has succeeded: it has returned a value, or nothing.
/// Errors     An error or an exception of the body is that of the call that ran it. The next call,
///            or the one that has waited longest, then runs its own body. operation_canceled and
///            timed_out, by the scope around a call that waits.
/// Lifetime   Outlives the calls.
template <class Domain>
class basic_once {
public:
    basic_once() noexcept = default;
    basic_once(const basic_once&) = delete;
    basic_once& operator=(const basic_once&) = delete;
    ~basic_once() {
        if (waiters_.inherited()) return;
        detail::finish_guard(domain_);
        KEVRING_ASSERT(state_ != state::running && waiters_.empty(),
                       "once destroyed while a call runs; end its users first");
    }

    template <class Body>
    task<result<void>> call(Body& body) {
        turn_operation turn(*this);
        const result<bool> must_run = co_await turn;
        if (!must_run) co_return tl::unexpected<std::error_code>(must_run.error());
        if (!*must_run) co_return result<void>();
        running run(*this);
        using value_type = detail::await_result<decltype(body())>;
        if constexpr (std::is_void_v<value_type>) {
            co_await body();
        } else {
            const value_type outcome = co_await body();
            if constexpr (requires {
                              outcome.has_value();
                              outcome.error();
                          }) {
                if (!outcome.has_value())
                    co_return tl::unexpected<std::error_code>(outcome.error());
            } else if constexpr (std::is_same_v<value_type, std::error_code>) {
                if (outcome) co_return tl::unexpected<std::error_code>(outcome);
            }
        }
        run.succeeded();
        co_return result<void>();
    }
    bool is_done() noexcept {
        const std::lock_guard inside(domain_);
        return state_ == state::done;
    }

private:
    template <class, class>
    friend class detail::wait_operation;
    enum class state : unsigned char { idle, running, done };

    // Waits until the body is done, or until this call must run it.
    class turn_operation final : public detail::wait_operation<basic_once, detail::wait_entry> {
    public:
        explicit turn_operation(basic_once& once) noexcept
            : detail::wait_operation<basic_once, detail::wait_entry>(once) {}
        result<bool> await_resume() noexcept {
            if (!this->granted()) return this->failure();
            return !this->owner().is_done();
        }
    };
    class running {
    public:
        explicit running(basic_once& once) noexcept : once_(once) {}
        running(const running&) = delete;
        running& operator=(const running&) = delete;
        ~running() { once_.finish(succeeded_); }
        void succeeded() noexcept { succeeded_ = true; }

    private:
        basic_once& once_;
        bool succeeded_ = false;
    };

    Domain& domain() noexcept { return domain_; }
    bool try_take(detail::wait_entry&) noexcept {
        if (state_ == state::running) return false;
        if (state_ == state::idle) state_ = state::running;
        return true;
    }
    void enqueue(detail::wait_entry& entry) noexcept { waiters_.push_back(entry); }
    void withdrawn(detail::wait_entry&) const noexcept {}
    void finish(bool has_succeeded) noexcept {
        const std::lock_guard inside(domain_);
        if (has_succeeded) {
            state_ = state::done;
            waiters_.grant_all(domain_);
        } else if (waiters_.empty()) {
            state_ = state::idle;
        } else {
            waiters_.grant_front(domain_);  // it runs its own body: the state stays
        }
    }

    Domain domain_;
    // Guarded by domain_.
    state state_ = state::idle;
    detail::wait_list waiters_;
};

using once = basic_once<detail::one_loop>;

namespace cross_loop {
using once = basic_once<detail::cross_loop>;
}  // namespace cross_loop

}  // namespace kevring
