// generator.hpp: a range whose elements a coroutine computes one by one, without an await.
#pragma once

#include <kevring/runtime/detail/frame_pool.hpp>

#include <coroutine>
#include <cstddef>
#include <exception>
#include <iterator>
#include <memory>
#include <ranges>
#include <type_traits>
#include <utility>

namespace kevring {

/// An input range of T. The body runs when an element is asked for, and must not await; see
/// async_generator for one that does.
///
///     generator<int> squares(int count) {
///         for (int i = 0; i < count; ++i) co_yield i * i;
///     }
///     for (int square : squares(10)) ...
///
/// Lifetime   A reference to an element is valid until the next one is asked for.
/// Errors     An exception of the body is thrown by begin() or by the increment.
template <class T>
class [[nodiscard]] generator : public std::ranges::view_interface<generator<T>> {
public:
    using value_type = std::remove_cvref_t<T>;
    using reference = std::conditional_t<std::is_reference_v<T>, T, value_type&>;

    class promise_type {
    public:
        static void* operator new(std::size_t bytes) { return detail::allocate_frame(bytes); }
        static void operator delete(void* frame, std::size_t bytes) noexcept {
            detail::free_frame(frame, bytes);
        }
        generator get_return_object() noexcept {
            return generator(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        std::suspend_always final_suspend() const noexcept { return {}; }
        std::suspend_always yield_value(value_type& value) noexcept {
            value_ = std::addressof(value);
            return {};
        }
        std::suspend_always yield_value(value_type&& value) noexcept {
            value_ = std::addressof(value);
            return {};
        }
        void return_void() const noexcept {}
        void unhandled_exception() noexcept { failure_ = std::current_exception(); }
        template <class Awaitable>
        void await_transform(Awaitable&&) = delete;  // use async_generator

        void rethrow() {
            if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
        }
        reference value() const noexcept { return static_cast<reference>(*value_); }

    private:
        value_type* value_ = nullptr;
        std::exception_ptr failure_;
    };

    class iterator {
    public:
        using iterator_concept = std::input_iterator_tag;
        using value_type = generator::value_type;
        using difference_type = std::ptrdiff_t;

        iterator() noexcept = default;
        explicit iterator(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
        reference operator*() const noexcept { return frame_.promise().value(); }
        iterator& operator++() {
            frame_.resume();
            if (frame_.done()) frame_.promise().rethrow();
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const iterator& self, std::default_sentinel_t) noexcept {
            return self.frame_.done();
        }

    private:
        std::coroutine_handle<promise_type> frame_;
    };

    generator(generator&& other) noexcept : frame_(std::exchange(other.frame_, {})) {}
    generator& operator=(generator&& other) noexcept {
        if (this != &other) {
            if (frame_) frame_.destroy();
            frame_ = std::exchange(other.frame_, {});
        }
        return *this;
    }
    ~generator() {
        if (frame_) frame_.destroy();
    }

    /// Computes the first element. Call it once.
    iterator begin() {
        frame_.resume();
        if (frame_.done()) frame_.promise().rethrow();
        return iterator(frame_);
    }
    std::default_sentinel_t end() const noexcept { return {}; }

private:
    explicit generator(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}

    std::coroutine_handle<promise_type> frame_;
};

}  // namespace kevring
