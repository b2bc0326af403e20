// transfer_test.hpp: fixtures of the tests of transfers: files, connected sockets, a reader.
#pragma once

#include "tests/support/catch.hpp"
#include "tests/support/loopback_listener.hpp"

#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/kernel.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/when.hpp>
#include <kevring/sendfile/send_file.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace kevring::testing {

/// Named, because g++ 12 does not bear braces in an await.
inline constexpr file_range whole{};

/// Bytes that differ from place to place: a shifted piece does not look right.
inline std::string pattern(std::size_t byte_count, std::uint32_t seed = 1) {
    std::string bytes(byte_count, '\0');
    std::uint32_t state = seed * 2654435761U + 1;
    for (char& byte : bytes) {
        state = state * 1664525U + 1013904223U;
        byte = static_cast<char>(state >> 24);
    }
    return bytes;
}

/// A file of the test's own, gone with it. It lies on a disk, so that it can be cold.
class test_file {
public:
    explicit test_file(const std::string& bytes) {
        const char* const folder = std::getenv("TMPDIR");
        name_ = std::string(folder != nullptr ? folder : "/var/tmp") + "/kevring-XXXXXX";
        fd_.reset(::mkostemp(name_.data(), O_CLOEXEC));
        REQUIRE(fd_.valid());
        write(0, bytes);
    }
    test_file(const test_file&) = delete;
    test_file& operator=(const test_file&) = delete;
    ~test_file() { ::unlink(name_.c_str()); }

    fd_ref native() const noexcept { return fd_; }
    const std::string& name() const noexcept { return name_; }

    void write(off_t offset, std::string_view bytes) const {
        while (!bytes.empty()) {
            const ssize_t written = ::pwrite(fd_.number(), bytes.data(), bytes.size(), offset);
            REQUIRE(written > 0);
            bytes.remove_prefix(static_cast<std::size_t>(written));
            offset += written;
        }
    }
    void truncate(off_t byte_count) const { REQUIRE(::ftruncate(fd_.number(), byte_count) == 0); }
    /// True if the file system supports RWF_NOWAIT; tmpfs does not.
    bool can_read_without_waiting() const {
        char byte = 0;
        const iovec part{&byte, 1};
        return kernel::real().read_nowait(fd_.number(), &part, 1, 0) != -EOPNOTSUPP;
    }
    /// Takes the file out of the page cache, as far as the kernel obeys.
    void make_cold() const {
        REQUIRE(::fsync(fd_.number()) == 0);
        REQUIRE(::posix_fadvise(fd_.number(), 0, 0, POSIX_FADV_DONTNEED) == 0);
    }

private:
    std::string name_;
    fd fd_;
};

/// Two ends of a stream.
struct stream_pair {
    fd local;
    fd peer;

    static stream_pair unix_sockets() {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        return {fd(ends[0]), fd(ends[1])};
    }
    static stream_pair tcp() {
        auto [local, peer] = loopback_listener().connect();
        return {std::move(local), std::move(peer)};
    }
    /// Closes both ends: discards bytes in flight, and frees the memory of zero-copy sends.
    void close() {
        reset_far();
        local.reset();
    }
    /// Ends the far side with a reset, not with an end.
    void reset_far() {
        const linger at_once{1, 0};
        ::setsockopt(peer.number(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        peer.reset();
    }
};

/// So that a transfer of this many bytes waits for its peer.
inline constexpr std::size_t more_than_a_socket_holds = 16 * 1024 * 1024;

/// The near end takes a file of some hundred KiB, whatever the far end does.
inline stream_pair roomy() {
    stream_pair ends = stream_pair::tcp();
    const int bytes = 1024 * 1024;
    ::setsockopt(ends.local.number(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    return ends;
}

/// With buffers that hold a step, and no more than that.
inline stream_pair narrowed(stream_pair ends) {
    const int bytes = 256 * 1024;
    ::setsockopt(ends.local.number(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    ::setsockopt(ends.peer.number(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    return ends;
}

inline stream_pair any_stream() {
    return GENERATE(true, false) ? stream_pair::tcp() : stream_pair::unix_sockets();
}

using path_option = std::optional<send_path>;

/// No path given, and each of them; KEVRING_SEND_PATH then forces what is not given.
inline path_option any_path() {
    return GENERATE(path_option{}, path_option{send_path::send}, path_option{send_path::sendfile},
                    path_option{send_path::read_send}, path_option{send_path::splice},
                    path_option{send_path::zero_copy});
}

inline std::string text_of(path_option path) {
    return std::string(path ? name_of(*path) : "no path forced");
}

inline send_options forced_to(path_option path) {
    send_options options;
    options.path = path;
    return options;
}

/// Runs `body(ring)` on a ring, with an end in time: a test that hangs fails.
template <class Body>
void on_ring(Body body, kernel& system = kernel::real()) {
    ring loop({}, system);
    run(loop, with_timeout(body(loop), std::chrono::seconds(60)));
}

/// Receives until `byte_count` have come, or the peer ends.
inline task<std::string> receive_bytes(ring& loop, fd_ref from, std::size_t byte_count) {
    std::string bytes(byte_count, '\0');
    std::size_t got = 0;
    while (got < byte_count) {
        const std::span<char> rest(bytes.data() + got, byte_count - got);
        receive_operation receive(loop, from, std::as_writable_bytes(rest));
        const auto some = co_await receive;
        if (!some || *some == 0) break;
        got += *some;
    }
    bytes.resize(got);
    co_return bytes;
}

struct exchange {
    send_report report;
    std::string received;
};

/// Sends while the far end receives; then the near end is shut down, so that too many bytes show.
inline task<exchange> send_and_receive(ring& loop, stream_pair& ends, fd_ref file, file_range range,
                                       send_options options, std::size_t expected_bytes) {
    const auto sending = [](ring& loop, stream_pair& ends, fd_ref file, file_range range,
                            send_options options) -> task<send_report> {
        send_report report = co_await send_file(loop, ends.local, file, range, options);
        ::shutdown(ends.local.number(), SHUT_WR);
        co_return report;
    };
    task<send_report> send = sending(loop, ends, file, range, options);
    task<std::string> receive = receive_bytes(loop, ends.peer, expected_bytes + 1);
    auto [report, received] = co_await when_all(std::move(send), std::move(receive));
    co_return exchange{report, std::move(received)};
}

/// send_and_receive() on a ring of its own.
inline exchange send_over(stream_pair& ends, fd_ref file, file_range range, send_options options,
                          std::size_t expected_bytes, kernel& system = kernel::real()) {
    exchange got;
    on_ring(
        [&](ring& loop) -> task<void> {
            got = co_await send_and_receive(loop, ends, file, range, options, expected_bytes);
        },
        system);
    return got;
}

/// For REQUIRE on strings of megabytes: says where they differ instead of printing them.
inline std::string difference(std::string_view got, std::string_view wanted) {
    if (got == wanted) return {};
    const auto different = std::mismatch(
        got.begin(), got.begin() + std::min(got.size(), wanted.size()), wanted.begin());
    return "sizes " + std::to_string(got.size()) + " and " + std::to_string(wanted.size()) +
           ", first difference at " + std::to_string(different.first - got.begin());
}

}  // namespace kevring::testing
