#include "tests/sendfile/transfer_test.hpp"

#include <kevring/runtime/sleep.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>

#include <chrono>
#include <functional>
#include <stop_token>

#include <sys/ioctl.h>
#include <sys/stat.h>

using namespace kevring;
using namespace kevring::testing;
using namespace std::chrono_literals;

namespace {

// A transfer, by each path, of a file that fits no socket, to a peer that reads nothing until
// `change` has been called.
struct held_transfer {
    path_option path = any_path();
    stream_pair ends = narrowed(stream_pair::tcp());
    std::string bytes = pattern(more_than_a_socket_holds);
    test_file file{bytes};
    send_options options = forced_to(path);

    exchange run(const std::function<void()>& change);

private:
    task<send_report> send(ring& loop) {
        send_report report = co_await send_file(loop, ends.local, file.native(), whole, options);
        ended_ = true;
        ::shutdown(ends.local.number(), SHUT_WR);
        co_return report;
    }
    task<std::string> receive(ring& loop, const std::function<void()>& change) {
        // The socket is full when its queue has stopped growing.
        int before = -1;
        for (int now = 0; !ended_ && (now == 0 || now != before);) {
            before = now;
            static_cast<void>(co_await sleep_for(20ms));
            ::ioctl(ends.local.number(), TIOCOUTQ, &now);
        }
        change();
        co_return co_await receive_bytes(loop, ends.peer, bytes.size() + 1);
    }

    bool ended_ = false;
};

exchange held_transfer::run(const std::function<void()>& change) {
    exchange got;
    on_ring([&](ring& loop) -> task<void> {
        task<send_report> sending = send(loop);
        task<std::string> receiving = receive(loop, change);
        auto [report, received] = co_await when_all(std::move(sending), std::move(receiving));
        got = exchange{report, std::move(received)};
    });
    return got;
}

}  // namespace

TEST_CASE("a file that shrinks while it is sent ends in an error, and short",
          "[sendfile][change]") {
    held_transfer one;
    INFO(text_of(one.path));

    const exchange got = one.run([&] { one.file.truncate(more_than_a_socket_holds - 100); });

    CHECK(got.report.error == send_errc::file_shrank);
    CHECK(got.received.size() < one.bytes.size());
    CHECK(got.received.size() == got.report.bytes_sent);
}

TEST_CASE("a file that is written while it is sent ends in an error, and short",
          "[sendfile][change]") {
    held_transfer one;
    const bool grows = GENERATE(true, false);
    INFO(text_of(one.path) << (grows ? ", grows" : ", changes"));

    const exchange got = one.run([&] {
        one.file.write(grows ? more_than_a_socket_holds : more_than_a_socket_holds - 100, "new");
    });

    CHECK(got.report.error == send_errc::file_changed);
    CHECK(got.received.size() < one.bytes.size());
}

TEST_CASE("a log that grows while it is sent is in order where that was said",
          "[sendfile][change]") {
    held_transfer one;
    INFO(text_of(one.path));
    one.options.allow_growth = true;

    const exchange got = one.run([&] { one.file.write(more_than_a_socket_holds, "line"); });

    CHECK(got.report.error == std::error_code{});
    CHECK(difference(got.received, one.bytes).empty());
}

TEST_CASE("a file that is replaced by name is sent to its end as it was", "[sendfile][change]") {
    held_transfer one;
    INFO(text_of(one.path));
    const test_file other(pattern(100, 9));

    const exchange got =
        one.run([&] { REQUIRE(::rename(other.name().c_str(), one.file.name().c_str()) == 0); });

    CHECK(got.report.error == std::error_code{});
    CHECK(difference(got.received, one.bytes).empty());
}

TEST_CASE("a file that is not the version that the header speaks of is not sent whole",
          "[sendfile][change]") {
    const path_option path = any_path();
    const std::size_t size = GENERATE(1000U, 500000U);
    INFO(text_of(path) << ", " << size << " bytes");
    stream_pair ends = stream_pair::tcp();
    const test_file file(pattern(size));

    struct stat status{};
    REQUIRE(::fstat(file.native().number(), &status) == 0);
    send_options options = forced_to(path);
    options.expected = file_version::from_stat(status);
    options.expected->modified_ns -= 1;
    const file_range range{0, size};
    const exchange got = send_over(ends, file.native(), range, options, size);

    CHECK(got.report.error == send_errc::file_changed);
    CHECK(got.received.size() < size);
}

TEST_CASE("a peer that resets ends the transfer", "[sendfile]") {
    held_transfer one;
    INFO(text_of(one.path));

    const exchange got = one.run([&] { one.ends.reset_far(); });

    const bool broken = got.report.error == std::errc::connection_reset ||
                        got.report.error == std::errc::broken_pipe;
    CHECK(broken);
    CHECK(got.report.bytes_sent < one.bytes.size());
    CHECK(detail::window_buffer::in_use_count() == 0);
}

TEST_CASE("a peer that disconnects before the first byte is an error, and no signal",
          "[sendfile]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = any_stream();
    const test_file file(pattern(500000));
    ::shutdown(ends.local.number(), SHUT_WR);

    on_ring([&](ring& loop) -> task<void> {
        const send_report report =
            co_await send_file(loop, ends.local, file.native(), whole, forced_to(path));

        CHECK(report.error == std::errc::broken_pipe);
        CHECK(report.bytes_sent == 0);
    });
}

namespace {

// A transfer, by each path, to a peer that never reads.
struct unread_transfer {
    path_option path = any_path();
    stream_pair ends = narrowed(any_stream());
    test_file file{pattern(more_than_a_socket_holds)};

    task<send_report> send(ring& loop) {
        return send_file(loop, ends.local, file.native(), whole, forced_to(path));
    }
};

}  // namespace

TEST_CASE("a deadline ends a transfer to a peer that does not read", "[sendfile]") {
    unread_transfer one;
    INFO(text_of(one.path));

    on_ring([&](ring& loop) -> task<void> {
        send_report report;
        // It may be over before the first byte; that costs the stream nothing, and is no test.
        for (auto limit = 50ms; report.bytes_sent == 0 && limit < 30s; limit *= 2) {
            report = co_await with_timeout(one.send(loop), limit);
            CHECK(report.error == std::errc::timed_out);
        }
        CHECK(report.bytes_sent > 0);
        CHECK(report.bytes_sent < more_than_a_socket_holds);
        one.ends.close();
    });
    CHECK(detail::window_buffer::in_use_count() == 0);
}

TEST_CASE("a stop ends a transfer to a peer that does not read", "[sendfile]") {
    unread_transfer one;
    INFO(text_of(one.path));

    on_ring([&](ring& loop) -> task<void> {
        std::stop_source stop;
        // Most often while the socket is full; a stop before that ends it as well.
        const auto stopping = [](std::stop_source& stop) -> task<void> {
            static_cast<void>(co_await sleep_for(20ms));
            stop.request_stop();
        };
        task<send_report> send = with_stop(one.send(loop), stop.get_token());
        task<void> end = stopping(stop);
        const auto [report, none] = co_await when_all(std::move(send), std::move(end));

        CHECK(report.error == std::errc::operation_canceled);
        one.ends.close();
    });
}
