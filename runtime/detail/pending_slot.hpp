// pending_slot.hpp: the one await of a kind that may be pending on an object.
#pragma once

#include <kevring/runtime/assert.hpp>

#include <utility>

namespace kevring::detail {

class pending_slot;

/// An await that holds a slot while it is pending.
struct slot_holder {
    using cancel_function = void (*)(slot_holder&) noexcept;
    explicit slot_holder(cancel_function cancel_await, pending_slot* held_slot = nullptr) noexcept
        : cancel(cancel_await), slot(held_slot) {}

    /// False: another await holds the slot.
    bool acquire_slot() noexcept;
    void release_slot() noexcept;

    cancel_function cancel;  // asks the kernel to end the await
    pending_slot* slot;      // null: any number of such awaits may be pending
};

/// True in a process that was forked from that of the ring of `holder`.
[[gnu::cold]] bool is_inherited(const slot_holder& holder) noexcept;  // operation.cpp

/// Belongs to a socket; finds a second receive while one is pending, and a socket that is destroyed
/// under one. Moves with its socket, also while an await is pending.
///
/// Thread     The ring's own.
class pending_slot {
public:
    pending_slot() noexcept = default;
    pending_slot(pending_slot&& other) noexcept { adopt(other); }
    pending_slot& operator=(pending_slot&& other) noexcept {
        if (this != &other) {
            check_free();
            adopt(other);
        }
        return *this;
    }
    ~pending_slot() { check_free(); }

    bool taken() const noexcept { return holder_ != nullptr; }
    /// Asks the kernel to end the await that is pending, which becomes independent of the slot.
    void cancel() noexcept {
        if (holder_ == nullptr) return;
        slot_holder& holder = *std::exchange(holder_, nullptr);
        holder.slot = nullptr;
        holder.cancel(holder);
    }

private:
    friend struct slot_holder;
    void check_free() const noexcept {
        KEVRING_ASSERT(holder_ == nullptr || is_inherited(*holder_),
                       "socket or stream destroyed while an await on it is pending; stop and join "
                       "the awaiting task first");
    }
    void adopt(pending_slot& other) noexcept {
        holder_ = std::exchange(other.holder_, nullptr);
        if (holder_ != nullptr) holder_->slot = this;
    }

    slot_holder* holder_ = nullptr;
};

inline bool slot_holder::acquire_slot() noexcept {
    if (slot == nullptr) return true;
    if (slot->taken()) return false;
    slot->holder_ = this;
    return true;
}

inline void slot_holder::release_slot() noexcept {
    if (slot != nullptr) slot->holder_ = nullptr;
}

}  // namespace kevring::detail
