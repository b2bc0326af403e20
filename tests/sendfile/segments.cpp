// segments.cpp: TCP segments of a transfer. TCP_CORK stays as the owner of the
// socket has set it: under bbr, a corked transfer of 1 MiB costs about twice the CPU time.
#include "tests/sendfile/transfer_test.hpp"

#include <kevring/runtime/kernel.hpp>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include <netinet/in.h>
#include <netinet/tcp.h>

using namespace kevring;
using namespace kevring::testing;

namespace {

bool is_corked(int socket) {
    int value = 0;
    socklen_t size = sizeof value;
    REQUIRE(::getsockopt(socket, IPPROTO_TCP, TCP_CORK, &value, &size) == 0);
    return value != 0;
}

// Passes each call on to Linux, and counts the calls during which the socket is corked.
class observing_kernel : public kernel {
public:
    int socket = -1;
    unsigned call_count = 0;
    unsigned corked_count = 0;
    off_t nonresident_begin = std::numeric_limits<off_t>::max();

    ssize_t send_file(int target, int file, off_t* file_offset,
                      std::size_t count) noexcept override {
        observe();
        return kernel::send_file(target, file, file_offset, count);
    }
    ssize_t sendmsg_nowait(int target, const msghdr& message, int flags) noexcept override {
        observe();
        return kernel::sendmsg_nowait(target, message, flags);
    }
    ssize_t splice_nowait(int source, off_t* source_offset, int target, std::size_t count,
                          unsigned flags) noexcept override {
        observe();
        return kernel::splice_nowait(source, source_offset, target, count, flags);
    }
    int ring_enter(io_uring& ring, unsigned submit_count, unsigned wait_count, unsigned flags,
                   const __kernel_timespec* timeout) noexcept override {
        observe();
        return kernel::ring_enter(ring, submit_count, wait_count, flags, timeout);
    }
    ssize_t read_nowait(int file, const iovec* parts, int part_count,
                        off_t file_offset) noexcept override {
        if (file_offset >= nonresident_begin) return -EAGAIN;
        return kernel::read_nowait(file, parts, part_count, file_offset);
    }

private:
    void observe() noexcept {
        ++call_count;
        if (is_corked(socket)) ++corked_count;
    }
};

constexpr std::size_t large_bytes = 1'500'000;

}  // namespace

TEST_CASE("a transfer never corks its socket", "[sendfile][segments]") {
    const std::size_t byte_count = GENERATE(std::size_t{200'000}, large_bytes);
    const bool is_resident = GENERATE(true, false);
    const path_option path = any_path();
    INFO(text_of(path) << ", " << byte_count << " bytes");
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(byte_count);
    const test_file file(bytes);
    observing_kernel system;
    system.socket = ends.local.number();
    if (!is_resident) system.nonresident_begin = 256 * 1024;
    send_options options = forced_to(path);
    options.header = "header";
    options.trailer = "trailer";

    const exchange got = send_over(ends, file.native(), whole, options, bytes.size() + 13, system);

    CHECK_FALSE(got.report.error);
    CHECK(difference(got.received, "header" + bytes + "trailer").empty());
    CHECK(system.call_count > 0);
    CHECK(system.corked_count == 0);
}

TEST_CASE("a socket that its owner has corked stays corked", "[sendfile][segments]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(large_bytes);
    const test_file file(bytes);
    const int socket = ends.local.number();
    const int enabled = 1;
    REQUIRE(::setsockopt(socket, IPPROTO_TCP, TCP_CORK, &enabled, sizeof enabled) == 0);

    const exchange got =
        send_over(ends, file.native(), whole, forced_to(send_path::sendfile), bytes.size());

    CHECK(difference(got.received, bytes).empty());
    CHECK(is_corked(socket));
}

// The peer has every byte while the transfer's socket stays open: no last part of a segment waits
// for an acknowledgement or for the next message.
TEST_CASE("the last bytes of a transfer leave without a further message", "[sendfile][segments]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(large_bytes + 1);
    const test_file file(bytes);
    std::string received;

    on_ring([&](ring& loop) -> task<void> {
        task<send_report> send = send_file(loop, ends.local, file.native(), whole, forced_to(path));
        task<std::string> receive = receive_bytes(loop, ends.peer, bytes.size());
        auto [report, text] = co_await when_all(std::move(send), std::move(receive));
        CHECK_FALSE(report.error);
        received = std::move(text);
    });

    CHECK(difference(received, bytes).empty());
}

TEST_CASE("a large file is sent over a socket without segments", "[sendfile][segments]") {
    stream_pair ends = stream_pair::unix_sockets();
    const std::string bytes = pattern(large_bytes);
    const test_file file(bytes);

    const exchange got =
        send_over(ends, file.native(), whole, forced_to(send_path::sendfile), bytes.size());

    CHECK(difference(got.received, bytes).empty());
    CHECK(got.report.bytes_by(send_path::sendfile) == bytes.size());
}
