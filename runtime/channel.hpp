// channel.hpp: items that coroutines pass to each other, in order and with back-pressure.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/async_generator.hpp>
#include <kevring/runtime/detail/wait_list.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <ranges>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace kevring {

/// A queue of at most `capacity` items between any number of senders and receivers. With a capacity
/// of 0 a sender waits until a receiver has taken its item (rendezvous).
///
///     channel<job> jobs(16);
///     const auto sent = co_await jobs.send(job(1));
///     ...
///     while (true) {
///         auto next = co_await jobs.receive();
///         if (!next) break;  // closed and empty, or stopped
///         run(*next);
///     }
///
/// `channel` is for the coroutines of one ring. `cross_loop::channel` is for coroutines of any rings;
/// its try_send(), try_receive() and close() may be called on any thread, also on one without a ring.
///
/// Select      `when_any(a.receive(), b.receive(), sleep_for(1s))`, or select(): the winner's item is
///             taken, and the items of the others stay in their channels.
/// Errors      broken_pipe: send() on a channel that is closed, receive() on one that is closed and
///             empty. operation_canceled and timed_out by the scope around an await: the item was not
///             sent, or none was taken.
/// Order       Items arrive in the order in which they were sent. Senders and receivers that wait are
///             served first come, first served. On several rings two receivers that were given items
///             may run in either order.
/// Memory      The constructor allocates the capacity; an await allocates nothing. An item that a
///             loser of when_any() puts back may need memory; without it the item is in the result of
///             when_any().
/// Lifetime    Outlives the awaits on it.
template <class T, class Domain>
class basic_channel {
    static_assert(std::is_nothrow_move_constructible_v<T>,
                  "an item is moved where no exception can be reported; make its move noexcept");

    struct sender : detail::wait_entry {
        explicit sender(T&& sent) noexcept : item(std::move(sent)) {}
        sender(sender&& other) noexcept : item(std::move(other.item)) {}
        T item;
        bool refused = false;  // the channel was closed
    };
    struct receiver : detail::wait_entry {
        receiver() noexcept = default;
        receiver(receiver&&) noexcept {}
        std::optional<T> item;  // empty where the channel was closed
    };

public:
    using value_type = T;

    explicit basic_channel(std::size_t capacity)
        : capacity_(capacity),
          slots_(capacity == 0 ? nullptr : std::make_unique<std::optional<T>[]>(capacity)) {}
    basic_channel(const basic_channel&) = delete;
    basic_channel& operator=(const basic_channel&) = delete;
    ~basic_channel() {
        if (senders_.inherited()) return;
        detail::finish_guard(domain_);
        KEVRING_ASSERT(senders_.empty() && receivers_.empty(),
                       "channel destroyed while a task waits for it; close() it and join its users "
                       "first");
    }

    class [[nodiscard]] send_operation final
        : public detail::wait_operation<basic_channel, sender> {
    public:
        send_operation(basic_channel& channel, T&& item) noexcept
            : detail::wait_operation<basic_channel, sender>(channel, std::move(item)) {}
        [[nodiscard]] result<void> await_resume() noexcept {
            if (!this->granted()) return this->failure();
            if (this->entry().refused) return error_from(std::errc::broken_pipe);
            return {};
        }
    };
    class [[nodiscard]] receive_operation final
        : public detail::wait_operation<basic_channel, receiver> {
    public:
        explicit receive_operation(basic_channel& channel) noexcept
            : detail::wait_operation<basic_channel, receiver>(channel) {}
        [[nodiscard]] result<T> await_resume() noexcept {
            if (!this->granted()) return this->failure();
            if (!this->entry().item) return error_from(std::errc::broken_pipe);
            return std::move(*this->entry().item);
        }
        bool leave() noexcept {
            auto& item = this->entry().item;
            return this->granted() && item && this->owner().put_back(*item);
        }
    };

    /// Sends one item; waits while the channel is full. An item that was not sent is destroyed with
    /// the operation; see try_send() for one that must be kept.
    send_operation send(T item) noexcept { return send_operation(*this, std::move(item)); }
    /// Receives the next item; waits while there is none.
    receive_operation receive() noexcept { return receive_operation(*this); }

    /// Sends `item` if that needs no wait. False: the channel is full or closed, and `item` is kept.
    [[nodiscard]] bool try_send(T& item) noexcept {
        const std::lock_guard inside(domain_);
        return !closed_ && senders_.empty() && place(item);
    }
    [[nodiscard]] bool try_send(T&& item) noexcept { return try_send(item); }
    /// An item that is available now.
    [[nodiscard]] std::optional<T> try_receive() noexcept {
        const std::lock_guard inside(domain_);
        if (!receivers_.empty()) return std::nullopt;
        return take();
    }

    /// Sends every element of a range, one after the other.
    ///
    /// Result     The number sent; fewer than there are only with an error, which is `failure`.
    /// Lifetime   A view refers to elements that live until the await ends.
    struct sent_range {
        std::size_t count = 0;
        std::error_code failure;
    };
    template <std::ranges::input_range Range>
        requires std::is_constructible_v<T, std::ranges::range_reference_t<Range>>
    task<sent_range> send_range(Range items) {
        sent_range sent;
        for (auto&& item : items) {
            const result<void> one = co_await send(T(std::forward<decltype(item)>(item)));
            if (!one) {
                sent.failure = one.error();
                co_return sent;
            }
            ++sent.count;
        }
        co_return sent;
    }
    /// Waits for one item, and receives with it those that are available, at most `count_max`.
    ///
    /// Errors     Those of receive().
    task<result<std::vector<T>>> receive_range(std::size_t count_max) {
        KEVRING_ASSERT(count_max != 0, "receive_range() of no items; pass at least 1");
        std::vector<T> items;
        items.reserve(1);
        result<T> first = co_await receive();
        if (!first) co_return tl::unexpected<std::error_code>(first.error());
        items.push_back(std::move(*first));
        while (items.size() < count_max) {
            if (items.size() == items.capacity()) {  // first: an item that was taken is not lost
                try {
                    items.reserve(2 * items.size());
                } catch (const std::bad_alloc&) {
                    break;
                }
            }
            std::optional<T> item = try_receive();
            if (!item) break;
            items.push_back(std::move(*item));
        }
        co_return items;
    }
    /// The items as a stream that ends when the channel is closed and empty, or the consumer is
    /// stopped.
    async_generator<T> items() {
        while (true) {
            result<T> item = co_await receive();
            if (!item) co_return;
            co_yield std::move(*item);
        }
    }

    /// Ends the sending: senders that wait and later ones fail. The items in the channel can still be
    /// received; then receivers fail. A second close() does nothing.
    void close() noexcept {
        const std::lock_guard inside(domain_);
        if (std::exchange(closed_, true)) return;
        while (!senders_.empty()) {
            static_cast<sender&>(senders_.front()).refused = true;
            senders_.grant_front(domain_);
        }
        receivers_.grant_all(domain_);  // none waits while there is an item
    }
    bool is_closed() noexcept {
        const std::lock_guard inside(domain_);
        return closed_;
    }
    /// The items in the channel, without those of senders that wait.
    std::size_t size() noexcept {
        const std::lock_guard inside(domain_);
        return count_ + returned_.size();
    }
    std::size_t capacity() const noexcept { return capacity_; }

private:
    template <class, class>
    friend class detail::wait_operation;

    Domain& domain() noexcept { return domain_; }

    // The following are called under the guard of domain_.

    bool try_take(sender& entry) noexcept {
        entry.refused = closed_;
        return closed_ || (senders_.empty() && place(entry.item));
    }
    void enqueue(sender& entry) noexcept { senders_.push_back(entry); }
    void withdrawn(sender&) const noexcept {}
    bool try_take(receiver& entry) noexcept {
        if (!receivers_.empty()) return false;
        move_to(entry.item, take());
        return entry.item.has_value() || closed_;
    }
    void enqueue(receiver& entry) noexcept { receivers_.push_back(entry); }
    void withdrawn(receiver&) const noexcept {}

    // The slot of a position below 2 * capacity_. A remainder would be a division for each item.
    std::size_t slot_at(std::size_t position) const noexcept {
        return position < capacity_ ? position : position - capacity_;
    }
    static void move_to(std::optional<T>& target, std::optional<T>&& item) noexcept {
        if (item) target.emplace(std::move(*item));
    }
    // Gives an item to the first receiver, or to a free slot.
    bool place(T& item) noexcept {
        if (give(item)) return true;
        if (count_ == capacity_) return false;
        slots_[slot_at(first_ + count_++)].emplace(std::move(item));
        return true;
    }
    bool give(T& item) noexcept {
        if (receivers_.empty()) return false;
        static_cast<receiver&>(receivers_.front()).item.emplace(std::move(item));
        receivers_.grant_front(domain_);
        return true;
    }
    std::optional<T> take() noexcept {
        std::optional<T> item;
        if (!returned_.empty()) {
            item.emplace(std::move(returned_.front()));
            returned_.erase(returned_.begin());
        } else if (count_ != 0) {
            item.emplace(std::move(*slots_[first_]));
            slots_[first_].reset();
            first_ = slot_at(first_ + 1);
            --count_;
            if (!senders_.empty()) {
                T& waiting = static_cast<sender&>(senders_.front()).item;
                slots_[slot_at(first_ + count_++)].emplace(std::move(waiting));
                senders_.grant_front(domain_);
            }
        } else if (!senders_.empty()) {
            item.emplace(std::move(static_cast<sender&>(senders_.front()).item));
            senders_.grant_front(domain_);
        }
        return item;
    }
    // An item that a receiver was given and has left. False: no memory to keep it.
    bool put_back(T& item) noexcept {
        const std::lock_guard inside(domain_);
        if (give(item)) return true;
        try {
            returned_.push_back(std::move(item));
        } catch (const std::bad_alloc&) {
            return false;
        }
        return true;
    }

    Domain domain_;
    const std::size_t capacity_;
    // Guarded by domain_.
    bool closed_ = false;
    std::unique_ptr<std::optional<T>[]> slots_;
    std::size_t first_ = 0;
    std::size_t count_ = 0;
    std::vector<T> returned_;      // by losers of a race, oldest first; older than the slots
    detail::wait_list senders_;    // none while a slot is free or a receiver waits
    detail::wait_list receivers_;  // none while there is an item
};

template <class T>
using channel = basic_channel<T, detail::one_loop>;

namespace cross_loop {
template <class T>
using channel = basic_channel<T, detail::cross_loop>;
}  // namespace cross_loop

}  // namespace kevring
