// What leaves the socket as segments: TCP_CORK around what sendfile(2) sends in many pieces.
#include "tests/sendfile/transfer_test.hpp"

#include <kevring/runtime/kernel.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

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

// Passes on to Linux, and notes how the socket was at each call.
class looking_kernel : public kernel {
public:
    std::vector<bool> corked;
    std::vector<bool> corked_at_splice;
    bool was_corked_at_the_end = false;  // when the loop went to the kernel with all sent
    int fails = 0;
    int fails_from_second_call = 0;
    off_t cold_from = std::numeric_limits<off_t>::max();
    std::uint64_t bytes_left = std::numeric_limits<std::uint64_t>::max();
    int socket = -1;

    ssize_t send_file(int to, int file, off_t* file_offset, std::size_t count) noexcept override {
        corked.push_back(is_corked(to));
        if (fails != 0) return -fails;
        if (fails_from_second_call != 0 && corked.size() > 1) return -fails_from_second_call;
        return noted(kernel::send_file(to, file, file_offset, count));
    }
    ssize_t read_nowait(int file, const iovec* parts, int part_count,
                        off_t file_offset) noexcept override {
        if (file_offset >= cold_from) return -EAGAIN;
        return kernel::read_nowait(file, parts, part_count, file_offset);
    }
    ssize_t splice_now(int source, off_t* source_offset, int target, std::size_t count,
                       unsigned flags) noexcept override {
        corked_at_splice.push_back(is_corked(target));
        return noted(kernel::splice_now(source, source_offset, target, count, flags));
    }
    int ring_enter(io_uring& ring, unsigned submit_count, unsigned wait_count, unsigned flags,
                   const __kernel_timespec* timeout) noexcept override {
        if (bytes_left == 0) was_corked_at_the_end |= is_corked(socket);
        return kernel::ring_enter(ring, submit_count, wait_count, flags, timeout);
    }

private:
    ssize_t noted(ssize_t sent) noexcept {
        if (sent > 0) bytes_left -= static_cast<std::uint64_t>(sent);
        return sent;
    }
};

send_options by_sendfile() { return by(send_path::sendfile); }

// A file of so many bytes, sent over TCP; it arrives as it is.
struct one_transfer {
    explicit one_transfer(std::size_t byte_count) : bytes(pattern(byte_count)), file(bytes) {}

    exchange run(const send_options& options, kernel& system = kernel::real()) {
        exchange got = send_over(ends, file.native(), whole, options, bytes.size(), system);
        CHECK(difference(got.received, bytes).empty());
        return got;
    }

    const std::string bytes;
    const test_file file;
    stream_pair ends = stream_pair::tcp();
};

bool has_none(const std::vector<bool>& corked) {
    return !corked.empty() && std::count(corked.begin(), corked.end(), true) == 0;
}

}  // namespace

TEST_CASE("a large file leaves in whole segments, and nothing is held back after it",
          "[sendfile][segments]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(1'500'000);
    const test_file file(bytes);
    looking_kernel system;
    send_options options = by_sendfile();
    options.header = "header";
    options.trailer = "trailer";

    const exchange got = send_over(ends, file.native(), whole, options, bytes.size() + 13, system);

    CHECK(difference(got.received, "header" + bytes + "trailer").empty());
    REQUIRE(system.corked.size() >= 6);
    CHECK(system.corked == std::vector<bool>(system.corked.size(), true));
    CHECK_FALSE(is_corked(ends.near.number()));
}

TEST_CASE("a transfer that fails on its way holds nothing back", "[sendfile][segments]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(1'500'000);
    const test_file file(bytes);
    looking_kernel system;
    system.fails_from_second_call = EIO;

    const exchange got = send_over(ends, file.native(), whole, by_sendfile(), bytes.size(), system);

    CHECK(got.report.error == std::error_code(EIO, std::system_category()));
    CHECK_FALSE(is_corked(ends.near.number()));
    CHECK(system.corked == std::vector<bool>{true, true});
}

// A disk may take long, and what is held back waits for it, or for 200 ms.
TEST_CASE("nothing is held back while a disk is waited for", "[sendfile][choice][segments]") {
    one_transfer large(1'000'000);
    looking_kernel system;
    system.cold_from = 256 * 1024;

    large.run(send_options(), system);

    CHECK(has_none(system.corked_at_splice));
}

TEST_CASE("nothing is held back while a file is forgotten", "[sendfile][segments]") {
    one_transfer large(1'000'000);
    looking_kernel system;
    system.socket = large.ends.near.number();
    system.bytes_left = large.bytes.size();
    send_options options = by_sendfile();
    options.hint = cache_hint::drop_after;

    large.run(options, system);

    CHECK(system.bytes_left == 0);
    CHECK_FALSE(system.was_corked_at_the_end);
}

TEST_CASE("sendfile that is refused leaves nothing held back", "[sendfile][choice][segments]") {
    looking_kernel system;
    system.fails = EINVAL;

    one_transfer(1'000'000).run(send_options(), system);

    CHECK(has_none(system.corked_at_splice));
}

TEST_CASE("a socket that its owner holds back stays so", "[sendfile][segments]") {
    one_transfer large(1'000'000);
    const int socket = large.ends.near.number();
    const int on = 1;
    REQUIRE(::setsockopt(socket, IPPROTO_TCP, TCP_CORK, &on, sizeof on) == 0);

    large.run(by_sendfile());

    CHECK(is_corked(socket));
}

// Two calls more are a tenth of what a small file costs; a rate is kept by pauses, in which the
// peer has what was released.
TEST_CASE("a small file, and one at a rate, are not held back", "[sendfile][segments]") {
    const bool has_rate = GENERATE(false, true);
    send_options options = by_sendfile();
    if (has_rate) options.bytes_per_second_max = 100'000'000;
    looking_kernel system;

    one_transfer(has_rate ? 1'000'000 : 200'000).run(options, system);

    CHECK(has_none(system.corked));
}

TEST_CASE("a large file goes through a socket that knows no segments", "[sendfile][segments]") {
    one_transfer large(1'000'000);
    large.ends = stream_pair::local();

    const exchange got = large.run(by_sendfile());

    CHECK(got.report.bytes_by(send_path::sendfile) == large.bytes.size());
}
