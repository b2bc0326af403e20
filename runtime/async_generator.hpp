// async_generator.hpp: a stream whose items a coroutine computes one by one, and which may await.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/deep_stack.hpp>
#include <kevring/runtime/detail/frame_pool.hpp>
#include <kevring/runtime/operation.hpp>

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

namespace kevring {

/// Items of type T, each computed when it is awaited.
///
///     async_generator<std::string> lines(byte_reader& reader) {
///         while (true) {
///             auto line = co_await reader.read_line();
///             if (!line) co_return;
///             co_yield std::string(*line);
///         }
///     }
///     auto source = lines(reader);
///     while (auto line = co_await source.next()) use(*line);
///
/// The body runs in the scope of the coroutine that awaits next(), so that its stops and deadlines
/// reach the awaits of the body. A stop ends an await of the body; the body decides what follows.
/// A next() that lost a when_any() leaves its item for the following next().
///
/// Result     Of next(): an item, or nothing after the body has ended.
/// Errors     An exception of the body is thrown by next(). The stream has ended then.
/// Lifetime   Outlives the awaits on it. It may be destroyed between two items: the local variables
///            of the body are destroyed then, and no await of it is pending.
/// In flight  One next() at a time. A limit (within(), until()) must not be alive across a co_yield.
template <class T>
class [[nodiscard]] async_generator {
public:
    using value_type = T;

    class promise_type {
    public:
        static void* operator new(std::size_t bytes) { return detail::allocate_frame(bytes); }
        static void operator delete(void* frame, std::size_t bytes) noexcept {
            detail::free_frame(frame, bytes);
        }
        async_generator get_return_object() noexcept {
            return async_generator(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_always initial_suspend() const noexcept { return {}; }

        // Suspends the body and resumes the consumer, unless that has not suspended yet.
        struct hand_over {
            bool await_ready() const noexcept { return false; }
            void await_suspend(std::coroutine_handle<promise_type> body) const noexcept {
                promise_type& promise = body.promise();
                promise.running_ = false;
                if (promise.starting_) return;
                // last: the consumer may destroy this frame
                detail::resume_bounded(promise.entered_, std::exchange(promise.consumer_, {}));
            }
            void await_resume() const noexcept {}
        };
        hand_over final_suspend() const noexcept { return {}; }
        template <class U>
            requires std::is_constructible_v<T, U>
        hand_over yield_value(U&& value) {
            KEVRING_ASSERT(scope == entered_,
                           "limit alive across co_yield; end the block of within() or until() "
                           "before the co_yield");
            item_.emplace(std::forward<U>(value));
            return {};
        }
        void return_void() const noexcept {}
        void unhandled_exception() noexcept { failure_ = std::current_exception(); }

        cancel_scope* scope = nullptr;  // of the coroutine that awaits next()

    private:
        friend class async_generator;
        cancel_scope* entered_ = nullptr;  // `scope` when the body was resumed
        std::coroutine_handle<> consumer_;
        std::optional<T> item_;
        std::exception_ptr failure_;
        bool starting_ = false;
        bool running_ = false;
    };

    async_generator(async_generator&& other) noexcept : frame_(std::exchange(other.frame_, {})) {}
    async_generator& operator=(async_generator&& other) noexcept {
        if (this != &other) {
            drop();
            frame_ = std::exchange(other.frame_, {});
        }
        return *this;
    }
    ~async_generator() { drop(); }

    class [[nodiscard]] next_operation {
    public:
        explicit next_operation(std::coroutine_handle<promise_type> body) noexcept : body_(body) {}
        bool await_ready() const noexcept {
            return body_.promise().item_.has_value() || body_.done();
        }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter) const noexcept {
            promise_type& promise = body_.promise();
            KEVRING_ASSERT(!promise.running_,
                           "generator awaited by two tasks at once; let one task await it at a "
                           "time");
            promise.scope = promise.entered_ = scope_of(waiter);
            promise.consumer_ = waiter;
            promise.running_ = true;
            if (detail::resume_later_if_deep(promise.scope, body_)) return true;
            promise.starting_ = true;
            body_.resume();
            promise.starting_ = false;
            return promise.running_;
        }
        [[nodiscard]] std::optional<T> await_resume() const {
            promise_type& promise = body_.promise();
            if (promise.failure_) std::rethrow_exception(std::exchange(promise.failure_, nullptr));
            std::optional<T> item(std::move(promise.item_));
            promise.item_.reset();
            return item;
        }
        bool leave() const noexcept { return body_.promise().item_.has_value(); }

    private:
        std::coroutine_handle<promise_type> body_;
    };

    /// The next item, or nothing where the body has ended.
    next_operation next() noexcept {
        KEVRING_ASSERT(frame_,
                       "generator awaited after it was moved from; await the one that it was moved "
                       "to");
        return next_operation(frame_);
    }

private:
    explicit async_generator(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
    void drop() noexcept {
        if (!frame_) return;
        KEVRING_ASSERT(!frame_.promise().running_,
                       "generator destroyed while next() is awaited; join the awaiting task first");
        frame_.destroy();
    }

    std::coroutine_handle<promise_type> frame_;
};

}  // namespace kevring
