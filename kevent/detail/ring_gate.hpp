// ring_gate.hpp: lets the close of a queue wait for the calls that use the memory of its ring.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <atomic>
#include <cstdint>

namespace kevring::detail {

/// Counts the calls that read or commit records without the lock of the queue.
///
/// Thread     Any, for every member.
class ring_gate {
public:
    /// The time in which a call uses the memory, if `is_open`. The call does not sleep in it.
    class use {
    public:
        // acquire: pairs with close(). Either that counts this use, or this use sees the close.
        explicit use(ring_gate& gate) noexcept
            : is_open((gate.users_.fetch_add(1, std::memory_order_acquire) & closed) == 0),
              gate_(gate) {}
        use(const use&) = delete;
        use& operator=(const use&) = delete;
        // release: pairs with the acquire in close().
        ~use() {
            if (gate_.users_.fetch_sub(1, std::memory_order_release) == (closed | 1))
                gate_.users_.notify_all();
        }

        const bool is_open;

    private:
        ring_gate& gate_;
    };

    ring_gate() = default;
    ring_gate(const ring_gate&) = delete;

    /// When it returns, no call uses the memory, and none will. Not within a use.
    void close() noexcept {
        std::uint32_t users = users_.fetch_or(closed, std::memory_order_acq_rel) | closed;
        while (users != closed) {
            users_.wait(users, std::memory_order_acquire);
            users = users_.load(std::memory_order_acquire);
        }
    }

private:
    static constexpr std::uint32_t closed = 1U << 31;

    std::atomic<std::uint32_t> users_{0};
};

}  // namespace kevring::detail
