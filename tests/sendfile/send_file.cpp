#include "tests/sendfile/transfer_test.hpp"

#include <kevring/runtime/kernel.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>

#include <chrono>
#include <ctime>
#include <optional>

#include <sys/ioctl.h>
#include <sys/stat.h>

using namespace kevring;
using namespace kevring::testing;
using namespace std::chrono_literals;

namespace {

using path_option = std::optional<send_path>;

// No path given, and each of them; KEVRING_SEND_PATH then forces what is not given.
path_option any_path() {
    return GENERATE(path_option{}, path_option{send_path::send}, path_option{send_path::sendfile},
                    path_option{send_path::read_send}, path_option{send_path::splice},
                    path_option{send_path::zero_copy});
}

std::string text_of(path_option path) {
    return std::string(path ? name_of(*path) : "no path forced");
}

send_options by(path_option path) {
    send_options options;
    options.path = path;
    return options;
}

// Unix sockets know no zero copy: the path is refused, and another takes over.
bool is_refused(path_option path, const stream_pair& ends) {
    int domain = 0;
    socklen_t size = sizeof domain;
    ::getsockopt(ends.near.number(), SOL_SOCKET, SO_DOMAIN, &domain, &size);
    return path == send_path::zero_copy && domain == AF_UNIX;
}

stream_pair any_stream() {
    return GENERATE(true, false) ? stream_pair::tcp() : stream_pair::local();
}

}  // namespace

TEST_CASE("a file arrives whole on every path, whatever its size", "[sendfile]") {
    const path_option path = any_path();
    const std::size_t size = GENERATE(0U, 1U, 4095U, 32768U, 32769U, 262144U, 1000001U, 3145728U);
    stream_pair ends = any_stream();
    INFO(text_of(path) << ", " << size << " bytes");
    const std::string bytes = pattern(size);
    const test_file file(bytes);

    on_ring([&](ring& on) -> task<void> {
        const exchange got =
            co_await send_and_receive(on, ends, file.native(), whole, by(path), bytes.size());

        CHECK(got.report.error == std::error_code{});
        CHECK(got.report.bytes_sent == size);
        CHECK(got.report.file_bytes == size);
        CHECK(difference(got.received, bytes).empty());
        if (path && size > 0 && !is_refused(path, ends)) {
            CHECK(name_of(got.report.path()) == name_of(*path));
            CHECK(got.report.reason() == send_reason::forced);
        }
    });
    CHECK(detail::window_buffer::out_count() == 0);
}

TEST_CASE("header, range and trailer arrive in this order", "[sendfile]") {
    const path_option path = any_path();
    const std::uint64_t count = GENERATE(0U, 100U, 32768U, 700000U);
    stream_pair ends = any_stream();
    INFO(text_of(path) << ", " << count << " bytes");
    const std::string bytes = pattern(800000);
    const test_file file(bytes);
    const std::string header = pattern(200, 2);
    const std::string trailer = pattern(77, 3);

    on_ring([&](ring& on) -> task<void> {
        send_options options = by(path);
        options.header = std::string_view(header);
        options.trailer = std::string_view(trailer);
        const file_range range{500, count};
        const std::string wanted = header + bytes.substr(500, count) + trailer;
        const exchange got =
            co_await send_and_receive(on, ends, file.native(), range, options, wanted.size());

        CHECK(got.report.error == std::error_code{});
        CHECK(got.report.bytes_sent == wanted.size());
        CHECK(got.report.file_bytes == count);
        CHECK(difference(got.received, wanted).empty());
    });
}

TEST_CASE("a header of many and of large buffers arrives whole", "[sendfile]") {
    const path_option path = any_path();
    stream_pair ends = any_stream();
    INFO(text_of(path));
    std::vector<std::string> texts;
    for (std::uint32_t i = 0; i < 50; ++i) texts.push_back(pattern(i % 7 == 0 ? 0 : i * 211, i));
    std::vector<std::span<const std::byte>> buffers;
    std::string wanted;
    for (const std::string& text : texts) {
        buffers.push_back(std::as_bytes(std::span(text)));
        wanted += text;
    }
    const std::string bytes = pattern(70000);
    const test_file file(bytes);
    wanted += bytes + wanted;

    on_ring([&](ring& on) -> task<void> {
        send_options options = by(path);
        options.header = send_buffers(std::span<const std::span<const std::byte>>(buffers));
        options.trailer = options.header;
        const exchange got =
            co_await send_and_receive(on, ends, file.native(), whole, options, wanted.size());

        CHECK(got.report.error == std::error_code{});
        CHECK(difference(got.received, wanted).empty());
    });
}

TEST_CASE("a cold file arrives whole on every path", "[sendfile][cold]") {
    const path_option path = any_path();
    const std::size_t size = GENERATE(10000U, 300000U, 2500000U);
    stream_pair ends = stream_pair::tcp();
    INFO(text_of(path) << ", " << size << " bytes");
    const std::string bytes = pattern(size);
    const test_file file(bytes);
    file.make_cold();

    on_ring([&](ring& on) -> task<void> {
        send_options options = by(path);
        options.hint = GENERATE(cache_hint::none, cache_hint::sequential, cache_hint::will_need,
                                cache_hint::drop_after);
        const exchange got =
            co_await send_and_receive(on, ends, file.native(), whole, options, bytes.size());

        CHECK(got.report.error == std::error_code{});
        CHECK(difference(got.received, bytes).empty());
    });
}

TEST_CASE("an end of the file before the range ends is an error, not a short success",
          "[sendfile]") {
    const path_option path = any_path();
    const std::size_t size = GENERATE(1000U, 300000U);
    INFO(text_of(path) << ", " << size << " bytes");
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(size);
    const test_file file(bytes);

    on_ring([&](ring& on) -> task<void> {
        const file_range range{0, size + 1};
        const exchange got =
            co_await send_and_receive(on, ends, file.native(), range, by(path), size);

        CHECK(got.report.error == send_errc::file_shrank);
        CHECK(got.received.size() <= size);
    });
}

TEST_CASE("a range beyond the end stops there when that was asked for", "[sendfile]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(2000);
    const test_file file(bytes);

    on_ring([&](ring& on) -> task<void> {
        send_options options = by(path);
        options.stop_at_end = true;
        const std::uint64_t offset = GENERATE(500U, 2000U, 5000U);
        const std::string wanted = offset < 2000 ? bytes.substr(offset) : "";
        const file_range range{offset, 100000};
        const exchange got =
            co_await send_and_receive(on, ends, file.native(), range, options, wanted.size());

        CHECK(got.report.error == std::error_code{});
        CHECK(difference(got.received, wanted).empty());
    });
}

namespace {

// Sends to a peer that reads nothing at first; `change` happens once the socket is full.
task<exchange> send_with_change(ring& on, stream_pair& ends, fd_ref file, file_range range,
                                send_options options, std::size_t size,
                                const std::function<void()>& change) {
    const auto sending = [](ring& on, stream_pair& ends, fd_ref file, file_range range,
                            send_options options, bool& ended) -> task<send_report> {
        send_report report = co_await send_file(on, ends.near, file, range, options);
        ended = true;
        ::shutdown(ends.near.number(), SHUT_WR);
        co_return report;
    };
    const auto receiving = [](ring& on, stream_pair& ends, std::size_t size, bool& ended,
                              const std::function<void()>& change) -> task<std::string> {
        // The socket is full when its queue has stopped growing.
        int before = -1;
        for (int now = 0; !ended && (now == 0 || now != before);) {
            before = now;
            co_await sleep_for(20ms);
            ::ioctl(ends.near.number(), TIOCOUTQ, &now);
        }
        change();
        co_return co_await receive_bytes(on, ends.far, size + 1);
    };
    bool ended = false;
    task<send_report> send = sending(on, ends, file, range, options, ended);
    task<std::string> receive = receiving(on, ends, size, ended, change);
    auto [report, received] = co_await when_all(std::move(send), std::move(receive));
    co_return exchange{report, std::move(received)};
}

constexpr std::size_t more_than_a_socket_holds = 16 * 1024 * 1024;

void set_small_buffers(const stream_pair& ends) {
    const int bytes = 256 * 1024;
    ::setsockopt(ends.near.number(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    ::setsockopt(ends.far.number(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

}  // namespace

TEST_CASE("a file that shrinks while it is sent ends in an error, and short",
          "[sendfile][change]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = stream_pair::tcp();
    set_small_buffers(ends);
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes);

    on_ring([&](ring& on) -> task<void> {
        const std::function<void()> change = [&] { file.truncate(more_than_a_socket_holds - 100); };
        const exchange got = co_await send_with_change(on, ends, file.native(), whole, by(path),
                                                       bytes.size(), change);

        CHECK(got.report.error == send_errc::file_shrank);
        CHECK(got.received.size() < bytes.size());
        CHECK(got.received.size() == got.report.bytes_sent);
    });
}

TEST_CASE("a file that is written while it is sent ends in an error, and short",
          "[sendfile][change]") {
    const path_option path = any_path();
    const bool grows = GENERATE(true, false);
    INFO(text_of(path) << (grows ? ", grows" : ", changes"));
    stream_pair ends = stream_pair::tcp();
    set_small_buffers(ends);
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes);

    on_ring([&](ring& on) -> task<void> {
        const std::function<void()> change = [&] {
            file.write(grows ? more_than_a_socket_holds : more_than_a_socket_holds - 100, "new");
        };
        const exchange got = co_await send_with_change(on, ends, file.native(), whole, by(path),
                                                       bytes.size(), change);

        CHECK(got.report.error == send_errc::file_changed);
        CHECK(got.received.size() < bytes.size());
    });
}

TEST_CASE("a log that grows while it is sent is in order where that was said",
          "[sendfile][change]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = stream_pair::tcp();
    set_small_buffers(ends);
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes);

    on_ring([&](ring& on) -> task<void> {
        const std::function<void()> change = [&] { file.write(more_than_a_socket_holds, "line"); };
        send_options options = by(path);
        options.may_grow = true;
        const exchange got = co_await send_with_change(on, ends, file.native(), whole, options,
                                                       bytes.size(), change);

        CHECK(got.report.error == std::error_code{});
        CHECK(difference(got.received, bytes).empty());
    });
}

TEST_CASE("a file that is replaced by name goes on being sent as it was", "[sendfile][change]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = stream_pair::tcp();
    set_small_buffers(ends);
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes);
    const test_file other(pattern(100, 9));

    on_ring([&](ring& on) -> task<void> {
        const std::function<void()> change = [&] {
            REQUIRE(::rename(other.name().c_str(), file.name().c_str()) == 0);
        };
        const exchange got = co_await send_with_change(on, ends, file.native(), whole, by(path),
                                                       bytes.size(), change);

        CHECK(got.report.error == std::error_code{});
        CHECK(difference(got.received, bytes).empty());
    });
}

TEST_CASE("a file that is not the version that the header speaks of is not sent whole",
          "[sendfile][change]") {
    const path_option path = any_path();
    const std::size_t size = GENERATE(1000U, 500000U);
    INFO(text_of(path) << ", " << size << " bytes");
    stream_pair ends = stream_pair::tcp();
    const test_file file(pattern(size));

    on_ring([&](ring& on) -> task<void> {
        struct stat status{};
        REQUIRE(::fstat(file.native().number(), &status) == 0);
        send_options options = by(path);
        options.expected = file_version::of(status);
        options.expected->modified_ns -= 1;
        const file_range range{0, size};
        const exchange got =
            co_await send_and_receive(on, ends, file.native(), range, options, size);

        CHECK(got.report.error == send_errc::file_changed);
        CHECK(got.received.size() < size);
    });
}

TEST_CASE("a peer that resets ends the transfer", "[sendfile]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = stream_pair::tcp();
    set_small_buffers(ends);
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes);

    on_ring([&](ring& on) -> task<void> {
        const std::function<void()> change = [&] { ends.reset_far(); };
        const exchange got = co_await send_with_change(on, ends, file.native(), whole, by(path),
                                                       bytes.size(), change);

        const bool broken = got.report.error == std::errc::connection_reset ||
                            got.report.error == std::errc::broken_pipe;
        CHECK(broken);
        CHECK(got.report.bytes_sent < bytes.size());
    });
    CHECK(detail::window_buffer::out_count() == 0);
}

TEST_CASE("a peer that has gone before the first byte is an error, and no signal", "[sendfile]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = any_stream();
    const test_file file(pattern(500000));
    ::shutdown(ends.near.number(), SHUT_WR);

    on_ring([&](ring& on) -> task<void> {
        const send_report report =
            co_await send_file(on, ends.near, file.native(), whole, by(path));

        CHECK(report.error == std::errc::broken_pipe);
        CHECK(report.bytes_sent == 0);
    });
}

TEST_CASE("a deadline ends a transfer to a peer that does not read", "[sendfile]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = any_stream();
    set_small_buffers(ends);
    const test_file file(pattern(more_than_a_socket_holds));

    on_ring([&](ring& on) -> task<void> {
        const send_report report =
            co_await with_timeout(send_file(on, ends.near, file.native(), whole, by(path)), 50ms);

        CHECK(report.error == std::errc::timed_out);
        CHECK(report.bytes_sent > 0);
        CHECK(report.bytes_sent < more_than_a_socket_holds);
        ends.close();
    });
    CHECK(detail::window_buffer::out_count() == 0);
}

TEST_CASE("a stop ends a transfer to a peer that does not read", "[sendfile]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = any_stream();
    set_small_buffers(ends);
    const test_file file(pattern(more_than_a_socket_holds));

    on_ring([&](ring& on) -> task<void> {
        std::stop_source stop;
        const auto stopping = [](std::stop_source& stop) -> task<void> {
            co_await sleep_for(20ms);
            stop.request_stop();
        };
        task<send_report> send =
            with_stop(send_file(on, ends.near, file.native(), whole, by(path)), stop.get_token());
        task<void> end = stopping(stop);
        const auto [report, none] = co_await when_all(std::move(send), std::move(end));

        CHECK(report.error == std::errc::operation_canceled);
        ends.close();
    });
}

TEST_CASE("a rate is kept to", "[sendfile]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(100000);
    const test_file file(bytes);

    on_ring([&](ring& on) -> task<void> {
        send_options options = by(path);
        options.bytes_per_second_max = 1'000'000;
        const std::int64_t begin_ns = on.now_ns();
        const exchange got =
            co_await send_and_receive(on, ends, file.native(), whole, options, bytes.size());
        const std::int64_t took_ns = on.now_ns() - begin_ns;

        CHECK(difference(got.received, bytes).empty());
        CHECK(took_ns >= 50'000'000);  // the second half cannot go earlier
    });
}

TEST_CASE("transfers in one order follow one another, each contiguous", "[sendfile][order]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = any_stream();
    const std::string first = pattern(1200000, 1);
    const std::string second = pattern(300, 2);
    const std::string third = pattern(400000, 3);
    const test_file first_file(first);
    const test_file second_file(second);
    const test_file third_file(third);

    on_ring([&](ring& on) -> task<void> {
        send_order order;
        const auto in_line = [&](std::string_view header) {
            send_options options = by(path);
            options.header = header;
            options.order = &order;
            return options;
        };
        task<send_report> one =
            send_file(on, ends.near, first_file.native(), whole, in_line("one"));
        task<send_report> two =
            send_file(on, ends.near, second_file.native(), whole, in_line("two"));
        task<send_report> three =
            send_file(on, ends.near, third_file.native(), whole, in_line("three"));
        const std::string wanted = "one" + first + "two" + second + "three" + third;
        task<std::string> receive = receive_bytes(on, ends.far, wanted.size());
        auto [a, b, c, received] =
            co_await when_all(std::move(one), std::move(two), std::move(three), std::move(receive));

        CHECK(a.error == std::error_code{});
        CHECK(b.error == std::error_code{});
        CHECK(c.error == std::error_code{});
        CHECK(difference(received, wanted).empty());
    });
}

TEST_CASE("a transfer that fails half-way ends those behind it in the order", "[sendfile][order]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = stream_pair::tcp();
    set_small_buffers(ends);
    const test_file file(pattern(more_than_a_socket_holds));
    const test_file small(pattern(10));

    on_ring([&](ring& on) -> task<void> {
        send_order order;
        send_options options = by(path);
        options.order = &order;
        task<send_report> one =
            with_timeout(send_file(on, ends.near, file.native(), whole, options), 50ms);
        task<send_report> two = send_file(on, ends.near, small.native(), whole, options);
        auto [a, b] = co_await when_all(std::move(one), std::move(two));

        CHECK(a.error == std::errc::timed_out);
        CHECK(b.error == std::errc::timed_out);
        CHECK(b.bytes_sent == 0);
        const send_report late = co_await send_file(on, ends.near, small.native(), whole, options);
        CHECK(late.error == std::errc::timed_out);
        ends.close();
    });
}

TEST_CASE("a transfer that is stopped while it waits in the order leaves the line whole",
          "[sendfile][order]") {
    stream_pair ends = stream_pair::tcp();
    set_small_buffers(ends);
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes);
    const test_file small("tail");

    on_ring([&](ring& on) -> task<void> {
        send_order order;
        send_options options;
        options.order = &order;
        const auto reading = [](ring& on, fd_ref far, std::size_t size) -> task<std::string> {
            co_await sleep_for(50ms);
            co_return co_await receive_bytes(on, far, size);
        };
        task<send_report> one = send_file(on, ends.near, file.native(), whole, options);
        task<send_report> two =
            with_timeout(send_file(on, ends.near, small.native(), whole, options), 1ms);
        task<send_report> three = send_file(on, ends.near, small.native(), whole, options);
        task<std::string> read = reading(on, ends.far, bytes.size() + 4);
        auto [a, b, c, received] =
            co_await when_all(std::move(one), std::move(two), std::move(three), std::move(read));

        CHECK(a.error == std::error_code{});
        CHECK(b.error == std::errc::timed_out);
        CHECK(c.error == std::error_code{});
        CHECK(difference(received, bytes + "tail").empty());
    });
}

TEST_CASE("what is no regular file is refused", "[sendfile]") {
    stream_pair ends = stream_pair::tcp();
    const fd folder(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));

    on_ring([&](ring& on) -> task<void> {
        const send_report from_folder = co_await send_file(on, ends.near, folder);
        const send_report from_null = co_await send_file(on, ends.near, null);

        CHECK(from_folder.error == std::errc::is_a_directory);
        CHECK(from_null.error == std::errc::invalid_argument);
    });
}
