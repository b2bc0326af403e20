// stream_source.hpp: the common part of sockets and pipes.
#pragma once

#include <kevring/kevent/sources/fd_source.hpp>

#include <cerrno>
#include <cstdint>
#include <memory>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

namespace kevring::detail {

inline constexpr std::uint32_t input_bits = POLLIN | POLLRDNORM;
inline constexpr std::uint32_t output_bits = POLLOUT | POLLWRNORM;

/// Reports which events of the mask are true, in ret_data[0] (K-101), or that none can become
/// true any more.
///
/// `Kind` describes a type of file: `file_type` in st_mode, `other_file_error` for another type,
/// the `input_events`, the bits `end_bits` that report a closed end, can_send(), and count(),
/// which is ret_data[1].
template <class Kind>
class stream_source final : public fd_source {
public:
    using fd_source::fd_source;

    static result<std::unique_ptr<source>> make(source_host& host, registration& target) {
        const auto file = status_of(target);
        if (!file) return error_from(-file.error().value());
        if ((file->st_mode & S_IFMT) != Kind::file_type) return error_from(-Kind::other_file_error);
        auto made = std::make_unique<stream_source>(host, target);
        // The ends of a pipe are one inode: each reports its own half.
        std::uint32_t possible_bits = ~std::uint32_t{0};
        const int flags = ::fcntl(static_cast<int>(target.record.id.raw[0]), F_GETFL);
        if (flags >= 0 && (flags & O_ACCMODE) == O_RDONLY) possible_bits &= ~output_bits;
        if (flags >= 0 && (flags & O_ACCMODE) == O_WRONLY) possible_bits &= ~input_bits;
        const fd_ref number(static_cast<int>(target.record.id.raw[0]));
        made->share(identify_file(number, *file), &satisfied_events, possible_bits);
        return made;
    }

    // At the last moment: more may have come since the activity.
    bool before_collect() noexcept override {
        set_delivered();
        const std::uint32_t satisfied = registration_.record.ret_data[0];
        set_results(satisfied, Kind::count(number(), satisfied));
        return true;
    }

private:
    std::uint32_t wanted_bits() const noexcept override {
        std::uint32_t bits = Kind::end_bits & ~std::uint32_t{POLLERR | POLLHUP};  // come unasked
        if ((event() & Kind::input_events) != 0) bits |= input_bits;
        if ((event() & KEVENT_SOCKET_SEND) != 0) bits |= output_bits;
        return bits;
    }

    static std::uint32_t satisfied_events(std::uint32_t event, std::uint32_t poll_bits) noexcept {
        std::uint32_t satisfied = 0;
        if ((poll_bits & input_bits) != 0) satisfied |= event & Kind::input_events;
        if ((poll_bits & output_bits) != 0 && Kind::can_send(event, poll_bits))
            satisfied |= event & KEVENT_SOCKET_SEND;
        return satisfied;
    }

    readiness evaluate(std::uint32_t poll_bits) noexcept override {
        const std::uint32_t satisfied = satisfied_events(event(), poll_bits);
        if (satisfied != 0) {
            set_results(satisfied, 0);
            return readiness::ready;
        }
        if ((poll_bits & Kind::end_bits) == 0) return readiness::not_ready;
        set_results(0, static_cast<std::uint32_t>(-EPIPE));
        return readiness::broken;
    }
};

}  // namespace kevring::detail
