// signal_stream.hpp: signals as values that a coroutine takes one after another.
#pragma once

#include <kevring/runtime/detail/fetched_item.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <utility>

#include <sys/types.h>

namespace kevring {
namespace detail {
class readiness_watch;
}

/// Some of the signals 1 to 64.
class signal_set {
public:
    constexpr signal_set() noexcept = default;
    /// Numbers that are no signals are kept; the functions that take the set refuse them.
    constexpr signal_set(std::initializer_list<int> numbers) noexcept {
        for (const int number : numbers) add(number);
    }

    constexpr void add(int number) noexcept { bits_ |= bit(number); }
    constexpr bool contains(int number) const noexcept { return (bits_ & bit(number)) != 0; }
    constexpr bool empty() const noexcept { return bits_ == 0; }
    friend constexpr bool operator==(signal_set, signal_set) noexcept = default;

    /// Blocks them in the calling thread, and in those that it starts from now on: they stay
    /// pending until a call takes them. A program calls this before it starts threads; a signal
    /// that one thread does not block may end the process there.
    ///
    /// Errors     invalid_argument for a set with numbers that cannot be blocked (SIGKILL, SIGSTOP,
    ///            those that the C library keeps).
    result<void> block() const noexcept;

private:
    friend class signal_stream;
    static constexpr std::uint64_t bit(int number) noexcept {
        return number < 1 || number > 64 ? none : std::uint64_t{1} << (number - 1);
    }
    // Stands for all numbers out of range: signal 32 is the C library's own, and refused like them.
    static constexpr std::uint64_t none = std::uint64_t{1} << 31;

    std::uint64_t bits_ = 0;
};

/// One signal, as sigaction(2) describes it.
struct signal_info {
    int number = 0;
    int code = 0;      // SI_USER, SI_QUEUE, CLD_EXITED, ...
    pid_t sender = 0;  // 0 where the kernel sent it
    uid_t sender_user = 0;
    int value = 0;  // what sigqueue(3) sent
};

/// Signals, taken by a coroutine in place of a handler.
///
///     auto control = value_or_throw(signal_stream::open({SIGHUP, SIGTERM}), "signals");
///     auto got = co_await control.next();
///
/// Opening blocks the signals in the calling thread, where they stay blocked: between two waits a
/// signal is pending, and is not lost. The kernel keeps one of each number, and queues those of
/// SIGRTMIN and above.
///
/// Lifetime   Stays where it is while a next() is awaited.
/// Thread     The ring's that awaits the first next(). Signals for the process arrive where all
///            threads block them; see signal_set::block().
class signal_stream {
public:
    /// Errors     invalid_argument for a set that is empty or cannot be blocked;
    ///            too_many_files_open.
    static result<signal_stream> open(signal_set wanted) noexcept;

    /// Errors     operation_canceled and timed_out, by the scope around it; no signal is lost then.
    /// In flight  One at a time.
    [[nodiscard]] detail::fetched_item<signal_info> next() { return {fetched_, fetch()}; }

private:
    explicit signal_stream(fd taker) noexcept : signal_fd_(std::move(taker)) {}
    task<result<void>> fetch();

    fd signal_fd_;
    std::shared_ptr<detail::readiness_watch> edges_;
    std::optional<signal_info> fetched_;  // by a next() that was left before it took it
};

/// Waits for one signal of a set, in place of a handler; see signal_stream.
///
/// `co_await signals(SIGINT, SIGTERM)`, or with a set that has a name. The signals stay blocked in
/// this thread afterwards; later ones stay pending for the next await.
task<result<signal_info>> signals(signal_set wanted);
template <std::same_as<int>... More>
task<result<signal_info>> signals(int number, More... numbers) {
    return signals(signal_set{number, numbers...});
}

}  // namespace kevring
