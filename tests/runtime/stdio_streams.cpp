// Streams on shared descriptors: terminals, pipes, sockets and files, whose status flags stay as they
// are.
#include "tests/support/catch.hpp"
#include "tests/support/file_support.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"

#include <kevring/runtime/operations/tee.hpp>
#include <kevring/runtime/pipe.hpp>
#include <kevring/runtime/process_kernel.hpp>
#include <kevring/runtime/stdio_stream.hpp>

#include <array>
#include <csignal>
#include <cstdlib>
#include <string>

#include <fcntl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

using kevring::fd;
using kevring::input_stream;
using kevring::output_stream;
using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

namespace {

struct ends {
    fd reading;
    fd writing;
};

ends open_pipe() {
    std::array<int, 2> numbers{};
    REQUIRE(::pipe2(numbers.data(), O_CLOEXEC) == 0);
    return {fd(numbers[0]), fd(numbers[1])};
}

ends open_sockets() {
    std::array<int, 2> numbers{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, numbers.data()) == 0);
    return {fd(numbers[0]), fd(numbers[1])};
}

bool is_nonblocking(const fd& file) { return (::fcntl(file.number(), F_GETFL) & O_NONBLOCK) != 0; }

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Fails writes.
class faulty_writes final : public kevring::process_kernel {
public:
    int error = 0;
    ssize_t write_without_signal(int file, const void* bytes, std::size_t count) noexcept override {
        return error != 0 ? -std::exchange(error, 0)
                          : process_kernel::write_without_signal(file, bytes, count);
    }
};

}  // namespace

TEST_CASE("a pipe is read and written without O_NONBLOCK on its description", "[runtime][stdio]") {
    ring loop;
    ends pipe = open_pipe();
    const std::string text(300000, 'x');  // more than the pipe holds
    auto body = [&]() -> task<void> {
        input_stream input(loop, pipe.reading);
        std::string got;
        auto write_all = [&]() -> task<void> {
            output_stream output(loop, pipe.writing);
            const auto written = co_await output.write(text);
            CHECK(written.has_value());
            CHECK_FALSE(is_nonblocking(pipe.writing));
            pipe.writing.reset();
        };
        kevring::task_scope side(loop);
        side.spawn(write_all());
        std::array<std::byte, 5000> buffer{};
        while (true) {
            const auto count = co_await input.read(buffer);
            REQUIRE(count.has_value());
            if (*count == 0) break;
            got += text_of(std::span(buffer).first(*count));
        }
        co_await side.join();
        CHECK(got == text);
        CHECK_FALSE(is_nonblocking(pipe.reading));
        const auto nothing = co_await input.read(std::span<std::byte>());
        CHECK(nothing.error() == std::errc::invalid_argument);
    };
    run_on(loop, body);
}

TEST_CASE("a terminal is read line by line and keeps its flags", "[runtime][stdio]") {
    ring loop;
    const fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!master.valid()) {
        WARN("not tried: this system has no pseudo-terminals");
        return;
    }
    REQUIRE(::grantpt(master.number()) == 0);
    REQUIRE(::unlockpt(master.number()) == 0);
    const fd terminal(::open(::ptsname(master.number()), O_RDWR | O_NOCTTY | O_CLOEXEC));
    REQUIRE(terminal.valid());
    auto body = [&]() -> task<void> {
        input_stream input(loop, terminal);
        output_stream output(loop, terminal);
        auto type = [&]() -> task<void> {
            co_await kevring::yield();
            co_await kevring::yield();
            CHECK(::write(master.number(), "one\ntwo\n", 8) == 8);
        };
        kevring::task_scope side(loop);
        side.spawn(type());
        std::string line;
        const auto first = co_await input.read_line(line);
        CHECK(first.value());
        CHECK(line == "one");
        const auto second = co_await input.read_line(line);
        CHECK(second.value());
        CHECK(line == "two");
        CHECK(::write(master.number(), "\x04", 1) == 1);  // end of file
        const auto end = co_await input.read_line(line);
        CHECK_FALSE(end.value());
        const auto written = co_await output.write("prompt");
        CHECK(written.has_value());
        CHECK_FALSE(is_nonblocking(terminal));
        // The other side of the terminal is no second terminal.
        input_stream other(loop, master);
        std::array<std::byte, 64> buffer{};
        const auto echoed = co_await other.read(buffer);
        CHECK(echoed.value() > 0);
        CHECK_FALSE(is_nonblocking(master));
        co_await side.join();
    };
    run_on(loop, body);
}

TEST_CASE("files and sockets are streams, too", "[runtime][stdio]") {
    ring loop;
    scratch_folder scratch;
    const fd file(::open(scratch.path("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    const ends sockets = open_sockets();
    auto body = [&]() -> task<void> {
        output_stream output(loop, file);
        const auto first = co_await output.write("one\n");
        const auto second = co_await output.write("two");
        CHECK((first && second));
        CHECK(scratch.read("file") == "one\ntwo");
        REQUIRE(::lseek(file.number(), 0, SEEK_SET) == 0);
        input_stream input(loop, file);
        std::string line;
        std::string all;
        while (true) {
            const auto more = co_await input.read_line(line);
            REQUIRE(more.has_value());
            if (!*more) break;
            all += line + '|';
        }
        CHECK(all == "one|two|");

        output_stream sends(loop, sockets.writing);
        input_stream receives(loop, sockets.reading);
        const auto sent = co_await sends.write("text");
        CHECK(sent.has_value());
        std::array<std::byte, 64> buffer{};
        const auto received = co_await receives.read(buffer);
        CHECK(received.value() == 4);
        CHECK_FALSE(is_nonblocking(sockets.reading));
        const std::string longer = std::string(200, 'x') + '\n';
        const auto sent_longer = co_await sends.write(longer);
        CHECK(sent_longer.has_value());
        const auto refused = co_await receives.read_line(line, 100);
        CHECK(refused.error() == std::errc::message_size);
    };
    run_on(loop, body);
}

TEST_CASE("a write that is stopped after its first bytes reports their number",
          "[runtime][stdio]") {
    ring loop;
    const std::string text(1 << 20, 'x');  // more than a pipe or the socket buffer holds
    const auto check = [](const kevring::write_result& written, const fd& reading) {
        CHECK(written.error() == std::errc::timed_out);
        CHECK(written.bytes_written() > 0);
        std::string received(1 << 20, '\0');
        std::size_t byte_count = 0;
        REQUIRE(::fcntl(reading.number(), F_SETFL, O_NONBLOCK) == 0);
        ssize_t count = 0;
        while ((count = ::read(reading.number(), received.data(), received.size())) > 0)
            byte_count += static_cast<std::size_t>(count);
        CHECK(byte_count == written.bytes_written());
    };
    auto body = [&]() -> task<void> {
        ends pipe = open_pipe();
        output_stream output(loop, pipe.writing);
        const auto piped = co_await kevring::with_timeout(output.write(text), 100ms);
        check(piped, pipe.reading);

        ends sockets = open_sockets();
        output_stream sends(loop, sockets.writing);
        const auto sent = co_await kevring::with_timeout(sends.write(text), 100ms);
        check(sent, sockets.reading);

        ends other = open_pipe();
        kevring::pipe_writer writer(loop, std::move(other.writing));
        const auto written = co_await kevring::with_timeout(writer.write(text), 100ms);
        check(written, other.reading);
    };
    run_on(loop, body);
}

TEST_CASE("a write without a reader is an error and no signal", "[runtime][stdio]") {
    ring loop;
    ends pipe = open_pipe();
    ends sockets = open_sockets();
    auto body = [&]() -> task<void> {
        output_stream output(loop, pipe.writing);
        output_stream sends(loop, sockets.writing);
        pipe.reading.reset();
        sockets.reading.reset();
        const auto written = co_await output.write("text");
        CHECK(written.error() == std::errc::broken_pipe);
        const auto sent = co_await sends.write("text");
        CHECK(sent.error() == std::errc::broken_pipe);
        sigset_t pending;
        ::sigpending(&pending);
        CHECK(::sigismember(&pending, SIGPIPE) == 0);
    };
    run_on(loop, body);
}

TEST_CASE("a stop before, during and after a read loses no byte", "[runtime][stdio]") {
    ring loop;
    for (const bool is_pipe : {true, false}) {
        const ends both = is_pipe ? open_pipe() : open_sockets();
        auto body = [&]() -> task<void> {
            input_stream input(loop, both.reading);
            std::array<std::byte, 16> buffer{};
            {
                const auto limit = co_await kevring::within(1ms);
                const auto during = co_await input.read(buffer);
                CHECK(during.error() == std::errc::timed_out);
            }
            CHECK(::write(both.writing.number(), "abc\nde", 6) == 6);
            {
                auto limit = co_await kevring::within(1h);
                limit.scope().request_stop();
                const auto before = co_await input.read(buffer);
                CHECK(before.error() == std::errc::operation_canceled);
            }
            std::string line;
            const auto first = co_await input.read_line(line);
            CHECK(first.value());
            CHECK(line == "abc");
            {
                const auto limit = co_await kevring::within(1ms);
                const auto half = co_await input.read_line(line);
                CHECK(half.error() == std::errc::timed_out);
            }
            const auto rest = co_await input.read(buffer);
            CHECK(rest.value() == 2);
        };
        run_on(loop, body);
    }
}

TEST_CASE("a stop ends a write to a full pipe", "[runtime][stdio]") {
    ring loop;
    const ends pipe = open_pipe();
    const std::string text(1 << 20, 'x');
    auto body = [&]() -> task<void> {
        output_stream output(loop, pipe.writing);
        const auto limit = co_await kevring::within(1ms);
        const auto written = co_await output.write(text);
        CHECK(written.error() == std::errc::timed_out);
    };
    run_on(loop, body);
}

TEST_CASE("errors of writes reach the caller, and an interrupted one is repeated",
          "[runtime][stdio]") {
    faulty_writes faults;
    scripted_kernel script;
    ring loop({}, script);
    loop.claim();
    loop.service<kevring::process_kernel_choice>().chosen = &faults;
    scratch_folder scratch;
    const ends pipe = open_pipe();
    const fd file(::open(scratch.path("file").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    auto body = [&]() -> task<void> {
        output_stream output(loop, pipe.writing);
        for (const int error : {EIO, ENOSPC, EPERM, EINVAL}) {
            faults.error = error;
            const auto written = co_await output.write("x");
            CHECK(written.error().value() == error);
        }
        for (const int error : {EINTR, EAGAIN}) {
            faults.error = error;
            const auto written = co_await output.write("x");
            CHECK(written.has_value());
        }
        output_stream to_file(loop, file);
        for (const int error : {EIO, ENOSPC, EDQUOT, EFBIG}) {
            script.fail(IORING_OP_WRITE, error);
            const auto written = co_await to_file.write("x");
            CHECK(written.error().value() == error);
        }
        input_stream input(loop, kevring::fd_ref(-1));
        std::array<std::byte, 4> buffer{};
        const auto nothing = co_await input.read(buffer);
        CHECK(nothing.error() == std::errc::bad_file_descriptor);
    };
    run_on(loop, body);
}

TEST_CASE("a FIFO is written and read, and its bytes are duplicated", "[runtime][stdio]") {
    ring loop;
    scratch_folder scratch;
    auto body = [&]() -> task<void> {
        const auto folder = scratch.opened(loop);
        const auto made = co_await folder.make_fifo("fifo");
        REQUIRE(made.has_value());
        kevring::open_options for_reads;
        for_reads.nonblocking = true;
        kevring::open_options for_writes;
        for_writes.access = kevring::file_access::write;
        for_writes.nonblocking = true;
        const auto early = co_await folder.open_file("fifo", for_writes);
        CHECK(early.error() == std::errc::no_such_device_or_address);
        auto opened = co_await folder.open_file("fifo", for_reads);
        REQUIRE(opened.has_value());
        auto target = co_await folder.open_file("fifo", for_writes);
        REQUIRE(target.has_value());
        fd writing = target->release();
        kevring::pipe_writer writer(loop, std::move(writing));
        const auto written = co_await writer.write("text");
        CHECK(written.has_value());
        writer.close();
        auto copy = kevring::open_pipe(loop);
        REQUIRE(copy.has_value());
        kevring::tee_operation tee(loop, opened->native(), copy->writer.native(), 100);
        const auto duplicated = co_await tee;
        CHECK(duplicated.value() == 4);
        copy->writer.close();
        std::string first;
        std::string second;
        kevring::pipe_reader reader(loop, opened->release());
        const auto read = co_await reader.read_all(first, 100);
        const auto read_copy = co_await copy->reader.read_all(second, 100);
        CHECK((read && read_copy));
        CHECK(first == "text");
        CHECK(second == "text");
    };
    run_on(loop, body);
}

TEST_CASE("a FIFO that has lost its writer is at its end", "[runtime][stdio]") {
    ring loop;
    scratch_folder scratch;
    REQUIRE(::mkfifo(scratch.path("fifo").c_str(), 0600) == 0);
    fd both(::open(scratch.path("fifo").c_str(), O_RDWR | O_CLOEXEC));
    const fd reading(::open(scratch.path("fifo").c_str(), O_RDONLY | O_CLOEXEC));
    auto body = [&]() -> task<void> {
        both.reset();
        input_stream input(loop, reading);
        std::array<std::byte, 4> buffer{};
        const auto end = co_await input.read(buffer);
        CHECK(end.value() == 0);
    };
    run_on(loop, body);
}
