#include "tests/sendfile/transfer_test.hpp"

#include <kevring/runtime/sleep.hpp>

#include <chrono>

using namespace kevring;
using namespace kevring::testing;
using namespace std::chrono_literals;

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

    on_ring([&](ring& loop) -> task<void> {
        send_queue order;
        const auto in_line = [&](std::string_view header) {
            send_options options = forced_to(path);
            options.header = header;
            options.queue = &order;
            return options;
        };
        task<send_report> one =
            send_file(loop, ends.local, first_file.native(), whole, in_line("one"));
        task<send_report> two =
            send_file(loop, ends.local, second_file.native(), whole, in_line("two"));
        task<send_report> three =
            send_file(loop, ends.local, third_file.native(), whole, in_line("three"));
        const std::string wanted = "one" + first + "two" + second + "three" + third;
        task<std::string> receive = receive_bytes(loop, ends.peer, wanted.size());
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
    stream_pair ends = narrowed(stream_pair::tcp());
    const test_file file(pattern(more_than_a_socket_holds));
    const test_file small(pattern(10));

    // Where the time is over before the first byte, the line is whole: then with more of it.
    const auto fails_half_way = [&](ring& loop, std::chrono::milliseconds limit) -> task<bool> {
        send_queue order;
        send_options options = forced_to(path);
        options.queue = &order;
        task<send_report> one =
            with_timeout(send_file(loop, ends.local, file.native(), whole, options), limit);
        task<send_report> two = send_file(loop, ends.local, small.native(), whole, options);
        auto [a, b] = co_await when_all(std::move(one), std::move(two));

        CHECK(a.error == std::errc::timed_out);
        if (a.bytes_sent == 0) co_return false;
        CHECK(b.error == std::errc::timed_out);
        CHECK(b.bytes_sent == 0);
        const send_report late =
            co_await send_file(loop, ends.local, small.native(), whole, options);
        CHECK(late.error == std::errc::timed_out);
        co_return true;
    };

    on_ring([&](ring& loop) -> task<void> {
        bool tried = false;
        for (auto limit = 50ms; !tried && limit < 30s; limit *= 2)
            tried = co_await fails_half_way(loop, limit);
        CHECK(tried);
        ends.close();
    });
}

TEST_CASE("a transfer that is stopped while it waits in the order leaves the line whole",
          "[sendfile][order]") {
    stream_pair ends = narrowed(stream_pair::tcp());
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes);
    const test_file small("tail");

    on_ring([&](ring& loop) -> task<void> {
        send_queue order;
        send_options options;
        options.queue = &order;
        const auto reading = [](ring& loop, fd_ref peer, std::size_t size) -> task<std::string> {
            static_cast<void>(co_await sleep_for(50ms));
            co_return co_await receive_bytes(loop, peer, size);
        };
        task<send_report> one = send_file(loop, ends.local, file.native(), whole, options);
        task<send_report> two =
            with_timeout(send_file(loop, ends.local, small.native(), whole, options), 1ms);
        task<send_report> three = send_file(loop, ends.local, small.native(), whole, options);
        task<std::string> read = reading(loop, ends.peer, bytes.size() + 4);
        auto [a, b, c, received] =
            co_await when_all(std::move(one), std::move(two), std::move(three), std::move(read));

        CHECK(a.error == std::error_code{});
        CHECK(b.error == std::errc::timed_out);
        CHECK(c.error == std::error_code{});
        CHECK(difference(received, bytes + "tail").empty());
    });
}
