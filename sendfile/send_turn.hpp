// send_turn.hpp: the turns of a loop, which all of its transfers share.
#pragma once

#include <kevring/runtime/ring.hpp>

#include <coroutine>

namespace kevring {

/// A place in the line of those who wait for a turn of the loop in which there is something left to
/// move. Together, the transfers of a loop move about 2 MiB in one turn of it; then others run.
///
///     while (!send_turn::is_free(on)) {
///         send_turn turn(on);
///         co_await turn;
///     }
///     const send_report at_once = try_send_file(on, client.native(), file, range, with);
///
/// send_file() waits in the same line by itself: this is for who repeats a try_send_file().
///
/// Lifetime   Stays where it is until the await ends; the ring outlives it. It ends within as many
///            turns as those before it need, and nothing ends it earlier.
/// Thread     The ring's own.
/// Errors     The constructor throws std::bad_alloc.
class [[nodiscard]] send_turn {
public:
    /// Whether a transfer that comes now may move bytes: nobody is before it, and something is left
    /// of this turn. After an await, it may.
    static bool is_free(ring& on) noexcept;

    explicit send_turn(ring& on);
    send_turn(const send_turn&) = delete;
    send_turn& operator=(const send_turn&) = delete;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) noexcept;
    void await_resume() const noexcept {}

private:
    friend class line_of_turns;
    class line_of_turns& line_;
    std::coroutine_handle<> waiter_;
    send_turn* next_ = nullptr;
};

}  // namespace kevring
