// completion_event.hpp: wakes a coroutine from another thread, once.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <sys/eventfd.h>
#include <unistd.h>

namespace httpd {

/// An eventfd: a stop of the waiting coroutine's scope ends the wait, and the thread that signals
/// later needs nothing of the loop.
class completion_event {
public:
    completion_event() noexcept : event_(::eventfd(0, EFD_CLOEXEC)) {}

    /// False if no descriptor is left.
    bool valid() const noexcept { return event_.valid(); }

    /// Thread     Any.
    void signal() const noexcept {
        const std::uint64_t one = 1;
        static_cast<void>(!::write(event_.number(), &one, sizeof one));
    }

    /// Result     False if the scope around the await was stopped.
    /// Lifetime   This object outlives the await.
    kevring::task<bool> wait(kevring::ring& loop) const {
        std::array<std::byte, 8> count{};
        kevring::read_operation read(loop, event_, std::span(count));
        const auto received = co_await read;
        co_return received.has_value();
    }

private:
    kevring::fd event_;
};

}  // namespace httpd
