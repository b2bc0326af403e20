// A child that is forked inside of a coroutine sends nothing through its parent's sockets.
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/sendfile/detail/pipe_pool.hpp>
#include <kevring/sendfile/send_file.hpp>

#include <array>
#include <optional>
#include <stdexcept>
#include <string>

#include <fcntl.h>
#include <signal.h>
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

namespace {

ino_t inode_of(fd_ref file) {
    struct stat status{};
    if (::fstat(file.number(), &status) != 0) throw std::runtime_error("fstat");
    return status.st_ino;
}

}  // namespace

// A pipe of two processes would carry the bytes of one to the peer of the other.
TEST_CASE("a forked child splices through pipes of its own", "[sendfile][fork]") {
    kernel& system = kernel::real();
    std::optional<detail::pooled_pipe> in_use(std::in_place, system);
    REQUIRE(*in_use);
    ino_t idle_inode = 0;
    {
        const detail::pooled_pipe idle(system);
        REQUIRE(idle);
        idle_inode = inode_of(idle.read_end());
    }
    REQUIRE(detail::pooled_pipe::idle_count() == 1);

    const child_outcome child = run_in_child([&] {
        if (detail::pooled_pipe::idle_count() != 0 || detail::pooled_pipe::in_use_count() != 0)
            throw std::runtime_error("the child has the pipes of its parent");
        const detail::pooled_pipe own(system);
        if (!own || inode_of(own.read_end()) == idle_inode)
            throw std::runtime_error("the child uses a pipe of its parent");
        in_use.reset();  // as the end of a coroutine of the parent does
        if (detail::pooled_pipe::idle_count() != 0 || detail::pooled_pipe::in_use_count() != 1)
            throw std::runtime_error("the child keeps a pipe of its parent");
    });

    INFO(child.error_text);
    CHECK(child.exited(0));
    CHECK(detail::pooled_pipe::idle_count() == 1);
}

TEST_CASE("a peer that disconnected does not end a program that ignored SIGPIPE before",
          "[sendfile]") {
    const send_path path = GENERATE(send_path::sendfile, send_path::splice);
    const child_outcome child = run_in_child([path] {
        const std::string bytes(128 * 1024, 'x');
        const fd file(::memfd_create("file", MFD_CLOEXEC));
        if (::write(file.number(), bytes.data(), bytes.size()) !=
            static_cast<ssize_t>(bytes.size()))
            throw std::runtime_error("write");
        ring loop;
        for (const auto disposition : {SIG_IGN, SIG_DFL}) {
            ::signal(SIGPIPE, disposition);
            std::array<int, 2> ends{};
            if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
                throw std::runtime_error("socketpair");
            const fd local(ends[0]);
            ::close(ends[1]);
            auto body = [&]() -> task<void> {
                send_options options;
                options.path = path;
                const file_range range{0, 128 * 1024};
                const auto report =
                    co_await send_file(loop, fd_ref(local), fd_ref(file), range, options);
                if (report.error != std::errc::broken_pipe)
                    throw std::runtime_error("send_file: " + report.error.message());
            };
            task<void> sending = body();
            run(loop, std::move(sending));
        }
    });

    INFO(child.error_text);
    CHECK(child.exited(0));
}
