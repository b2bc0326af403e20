// A child that is forked inside of a coroutine sends nothing through its parent's sockets.
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/sendfile/send_file.hpp>

#include <array>
#include <stdexcept>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace kevring;

TEST_CASE("send_file and try_send_file in a forked child send nothing and report it",
          "[sendfile][fork]") {
    constexpr std::size_t byte_count = 64 * 1024;
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    const fd local(ends[0]);
    const fd peer(ends[1]);
    const fd file(::memfd_create("file", MFD_CLOEXEC));
    const std::string bytes(byte_count, 'x');
    REQUIRE(::write(file.number(), bytes.data(), bytes.size()) == static_cast<ssize_t>(byte_count));
    struct stat status{};
    REQUIRE(::fstat(file.number(), &status) == 0);
    const file_range range{0, byte_count};
    send_options options;
    options.expected = file_version::from_stat(status);
    ring loop;
    auto body = [&]() -> task<void> {
        co_await yield();
        const fd_ref socket(local);
        auto send = [&]() -> task<void> {
            const auto report = co_await send_file(loop, socket, file, range, options);
            if (report.error != std::errc::operation_not_permitted || report.bytes_sent != 0)
                throw std::runtime_error("send_file: " + report.error.message());
            co_return;
        };
        const child_outcome child = run_in_child([&] {
            const send_report report = try_send_file(loop, socket, file, range, options);
            if (report.error != std::errc::operation_not_permitted || report.bytes_sent != 0)
                throw std::runtime_error("try_send_file: " + report.error.message());
            task<void> sending = send();
            ring own;
            run(own, std::move(sending));
        });
        INFO(child.error_text);
        CHECK(child.exited(0));
        char byte = 0;
        CHECK(::recv(peer.number(), &byte, 1, MSG_DONTWAIT) == -1);

        // The parent is undisturbed.
        const file_range begin{0, 100};
        const auto report = co_await send_file(loop, socket, file, begin);
        CHECK(report.bytes_sent == 100);
    };
    run_on(loop, body);
}
