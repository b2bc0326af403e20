// event.hpp: the 40-byte record of the kevent queue as a C++ value.
#pragma once

#include <kevring/kevent/kevent.h>
#include <kevring/kevent/event_type.hpp>

#include <cstdint>
#include <cstring>
#include <system_error>
#include <type_traits>

namespace kevring {

/// A value that a program attaches to a request and finds again in each of its events: a pointer, a
/// number, an enumerator, a small struct.
template <class T>
concept event_user_data = std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t);

/// Kinds of readiness of a socket or a pipe: bits that `|` combines.
enum class socket_interest : std::uint32_t {
    receive = KEVENT_SOCKET_RECV,  // bytes, or the end of them
    accept = KEVENT_SOCKET_ACCEPT,
    send = KEVENT_SOCKET_SEND,
};
constexpr socket_interest operator|(socket_interest one, socket_interest other) noexcept {
    return static_cast<socket_interest>(static_cast<std::uint32_t>(one) |
                                        static_cast<std::uint32_t>(other));
}

/// Names one registration of a queue.
struct event_key {
    std::uint64_t id = 0;
    event_type type = event_type::unotify;
    friend bool operator==(const event_key&, const event_key&) noexcept = default;
};

/// One event: what happened, and the program's own word about it.
class event {
public:
    event() noexcept = default;
    explicit event(const ukevent& record) noexcept : record_(record) {}

    event_type type() const noexcept { return static_cast<event_type>(record_.type); }
    event_key key() const noexcept { return {record_.id.raw_u64, type()}; }
    /// As it was given to add(); T is the type that was given.
    template <event_user_data T>
    T user_data() const noexcept {
        T value;
        std::memcpy(&value, &record_.user_u64, sizeof value);
        return value;
    }

    /// The origin failed or is gone, and the registration reports nothing more.
    bool failed() const noexcept { return (record_.ret_flags & KEVENT_RET_BROKEN) != 0; }
    /// Why; no error where none is known.
    std::error_code error() const noexcept {
        if (!failed()) return {};
        return {-static_cast<std::int32_t>(record_.ret_data[1]), std::system_category()};
    }

    // The activity, by type. For an event that failed these values have no meaning.

    /// A descriptor: POLLIN, POLLOUT, ...; a socket or a pipe: the bits of a socket_interest; an
    /// inode: those of a change_kind; others: 0.
    std::uint32_t ready_bits() const noexcept {
        return type() == event_type::poll || type() == event_type::inode ||
                       type() == event_type::socket || type() == event_type::pipe
                   ? record_.ret_data[0]
                   : 0;
    }
    /// A socket or a pipe: whether it is ready for `kind`.
    bool is_ready_for(socket_interest kind) const noexcept {
        return (type() == event_type::socket || type() == event_type::pipe) && !failed() &&
               (record_.ret_data[0] & static_cast<std::uint32_t>(kind)) != 0;
    }
    /// A TCP socket that is ready for `accept`: the connections that wait. Others: 0.
    std::uint32_t waiting_connections() const noexcept {
        return is_ready_for(socket_interest::accept) ? record_.ret_data[1] : 0;
    }
    /// A note: how often notify() has fired it since its last event.
    std::uint32_t notification_count() const noexcept {
        return type() == event_type::unotify ? record_.ret_data[1] : 0;
    }
    /// A timer: how many periods have ended since its last event.
    std::uint32_t expirations() const noexcept { return record_.ret_data[1]; }
    /// A note: its number. A signal: its number. A process: its number.
    std::uint64_t number() const noexcept { return record_.id.raw_u64 & ~KEVENT_SIGNAL_NOMASK; }
    /// A signal: the process that sent it, and the value that sigqueue(3) sent.
    std::uint32_t sender() const noexcept { return record_.ret_data[0]; }
    std::int32_t value() const noexcept { return static_cast<std::int32_t>(record_.ret_data[1]); }
    /// A file transfer: the bytes that were passed to the kernel; of one that failed, modulo 2^32.
    std::uint64_t bytes_sent() const noexcept {
        if (type() != event_type::aio) return 0;
        const std::uint64_t high = failed() ? 0 : record_.ret_data[1];
        return high << 32 | record_.ret_data[0];
    }
    /// A child process: its exit code, or the signal that ended it; CLD_EXITED, CLD_KILLED, ...
    std::int32_t exit_code() const noexcept {
        return static_cast<std::int32_t>(record_.ret_data[0]);
    }
    std::int32_t exit_kind() const noexcept {
        return static_cast<std::int32_t>(record_.ret_data[1]);
    }

    /// The record that the C interface would have given.
    const ukevent& record() const noexcept { return record_; }

private:
    ukevent record_{};
};
static_assert(sizeof(event) == sizeof(ukevent) && std::is_trivially_copyable_v<event>);

}  // namespace kevring
