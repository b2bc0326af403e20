// stop_bridge.hpp: brings a std::stop_token's request, made on any thread, to the ring's thread.
#pragma once

#include <kevring/runtime/work.hpp>

#include <optional>
#include <stop_token>
#include <utility>

namespace kevring {
class ring;
}

namespace kevring::detail {

/// Calls `stopped(target)` on the ring's thread once `token` is stopped, until it is closed.
///
/// Invariant  While a request made on another thread travels through the ring's queue, the queue
///            holds this object's address. close() then says false, and `closed(target)` is called
///            when the request has arrived; only then may the object go.
/// Thread     The ring's own for every member; the request itself comes from any.
class stop_bridge {
public:
    using function = void (*)(void* target) noexcept;

    stop_bridge(ring& loop, std::stop_token token, void* target, function stopped,
                function closed) noexcept
        : loop_(loop), target_(target), stopped_(stopped), closed_(closed) {
        callback_.emplace(std::move(token), requester{*this});  // may call requested() at once
    }

    /// Ends the watch. True: no stop is in transit, and the bridge may be destroyed immediately.
    bool close() noexcept;

private:
    struct requester {
        stop_bridge& bridge;
        void operator()() const noexcept { bridge.requested(); }
    };
    struct delivery : work {
        explicit delivery(stop_bridge& self) noexcept : work(delivered), bridge(self) {}
        stop_bridge& bridge;
    };

    void requested() noexcept;
    static void delivered(work& item) noexcept;

    // Constant after construction.
    ring& loop_;
    void* target_;
    function stopped_;
    function closed_;
    // Written by the thread that stops, read by the ring's after ~stop_callback() has waited for
    // it.
    bool posted_ = false;
    // Written on the ring's thread.
    bool delivered_ = false;
    bool closing_ = false;
    delivery delivery_{*this};
    std::optional<std::stop_callback<requester>> callback_;
};

}  // namespace kevring::detail
