// Multishot requests.
#include "tests/support/catch.hpp"
#include "tests/support/loopback_listener.hpp"
#include "tests/support/received.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/operations/accept.hpp>
#include <kevring/runtime/operations/nop.hpp>
#include <kevring/runtime/operations/poll.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/when.hpp>

#include <cerrno>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

using kevring::accept_stream;
using kevring::borrowed_buffer;
using kevring::buffer_pool;
using kevring::poll_stream;
using kevring::receive_stream;
using kevring::ring;
using kevring::task;
using kevring::task_scope;
using namespace std::chrono_literals;

namespace {

// Each user of multishot requests, as a stream on the near end of a pair.
struct stream_kind {
    const char* name;
    std::uint8_t opcode;
    // Awaits the next item of a stream of its own, which ends with the await.
    std::function<task<std::error_code>(ring&, kevring::fd_ref)> await_once;
};

template <class Stream>
task<std::error_code> next_error(Stream stream) {
    const auto item = co_await stream.next();
    co_return item ? std::error_code() : item.error();
}

const std::vector<stream_kind>& stream_kinds() {
    static const std::vector<stream_kind> all{
        {"receive", IORING_OP_RECV,
         [](ring& loop, kevring::fd_ref file) { return next_error(receive_stream(loop, file)); }},
        {"accept", IORING_OP_ACCEPT,
         [](ring& loop, kevring::fd_ref file) { return next_error(accept_stream(loop, file)); }},
        {"poll", IORING_OP_POLL_ADD,
         [](ring& loop, kevring::fd_ref file) {
             return next_error(poll_stream(loop, file, POLLIN));
         }},
    };
    return all;
}

}  // namespace

TEST_CASE("a stream that the kernel ends continues", "[runtime][receive][multishot]") {
    const bool kernel_ends_it = GENERATE(true, false);
    scripted_kernel script;
    if (kernel_ends_it) script.end_after_first(IORING_OP_RECV);
    ring loop({}, script);
    socket_pair sockets;
    auto body = [&]() -> task<void> {
        receive_stream stream(loop, sockets.local());
        for (int i = 0; i < 50; ++i) {
            sockets.send_from_peer("again");
            const auto got = co_await stream.next();
            CHECK(text_of(got.value()) == "again");
        }
    };
    run_on(loop, body);
    // The first is for one buffer: the size of the messages is not known yet.
    CHECK(script.submitted(IORING_OP_RECV) == (kernel_ends_it ? 50 : 2));
}

TEST_CASE("a stop ends a wait and loses no byte", "[runtime][receive][multishot]") {
    ring loop;
    socket_pair sockets;
    auto body = [&]() -> task<void> {
        receive_stream stream(loop, sockets.local());
        std::string all;
        for (int i = 0; i < 200; ++i) {
            const auto limit =
                co_await kevring::within(1us);  // may be over before the byte is here
            const auto got = co_await stream.next();
            if (got)
                all += text_of(*got);
            else
                CHECK(got.error() == std::errc::timed_out);
            sockets.send_from_peer("x");
        }
        sockets.close_peer();
        all += co_await all_of(stream);
        CHECK(all == std::string(200, 'x'));
    };
    run_on(loop, body);
}

TEST_CASE("an error is reported after the bytes that came before it",
          "[runtime][receive][multishot]") {
    scripted_kernel script;
    ring loop({}, script);
    socket_pair sockets;
    auto body = [&]() -> task<void> {
        receive_stream stream(loop, sockets.local());
        sockets.send_from_peer("before");
        const auto got = co_await stream.next();
        CHECK(text_of(got.value()) == "before");
        script.fail(IORING_OP_RECV, ECONNRESET);
        script.end_after_first(IORING_OP_RECV);
        receive_stream other(loop, sockets.local());
        const auto failed = co_await other.next();
        CHECK(failed.error() == std::errc::connection_reset);
    };
    run_on(loop, body);
}

TEST_CASE("a peer that sends ahead is held back by the kernel", "[runtime][receive][multishot]") {
    ring loop;
    buffer_pool pool(loop, {.buffer_bytes = 64, .buffer_count = 32, .buffer_count_max = 32});
    socket_pair sockets;
    auto body = [&]() -> task<void> {
        receive_stream stream(loop, sockets.local(), pool);
        sockets.send_from_peer("x");
        {
            const auto got = co_await stream.next();
            CHECK(got.has_value());
        }
        const std::string much(64 * 100, 'm');
        sockets.send_from_peer(much);
        for (int i = 0; i < 20; ++i) co_await kevring::yield();
        int unread = 0;
        REQUIRE(::ioctl(sockets.local().number(), FIONREAD, &unread) == 0);
        CHECK(unread > 64 * 50);  // most of it waits in the socket
        sockets.close_peer();
        const std::string all = co_await all_of(stream);
        CHECK(all == much);
    };
    run_on(loop, body);
}

TEST_CASE("a stream may go while its request is in flight", "[runtime][receive][multishot]") {
    ring loop;
    std::vector<socket_pair> pairs(50);
    auto body = [&]() -> task<void> {
        for (int round = 0; round < 3; ++round) {
            std::vector<std::unique_ptr<receive_stream>> streams;
            for (socket_pair& each : pairs) {
                streams.push_back(std::make_unique<receive_stream>(loop, each.local()));
                const auto limit = co_await kevring::within(1us);
                const auto got = co_await streams.back()->next();
                CHECK((got.has_value() || got.error() == std::errc::timed_out));
            }
            for (socket_pair& each : pairs) each.send_from_peer("x");  // may be taken, may be not
            streams.clear();
        }
    };
    run_on(loop, body);
    CHECK(loop.service<kevring::buffer_pool>().borrowed_count() == 0);
}

TEST_CASE("an accept stream gives every connection", "[runtime][accept][multishot]") {
    for (const bool ends : {false, true}) {
        CAPTURE(ends);
        scripted_kernel script;
        if (ends) script.end_after_first(IORING_OP_ACCEPT);
        ring loop({}, script);
        const loopback_listener accepting;
        auto body = [&]() -> task<void> {
            kevring::accept_stream stream(loop, accepting.native());
            std::vector<kevring::fd> both;
            for (int i = 0; i < 20; ++i) {
                both.push_back(accepting.dial());
                auto accepted = co_await stream.next();
                REQUIRE(accepted.has_value());
                both.push_back(std::move(*accepted));
            }
        };
        run_on(loop, body);
    }
}

TEST_CASE("connections that no task took are closed with the stream",
          "[runtime][accept][multishot]") {
    ring loop;
    const loopback_listener accepting;
    auto body = [&]() -> task<void> {
        std::vector<kevring::fd> clients;
        {
            kevring::accept_stream stream(loop, accepting.native());
            clients.push_back(accepting.dial());
            const auto taken = co_await stream.next();
            CHECK(taken.has_value());
            for (int i = 0; i < 3; ++i) clients.push_back(accepting.dial());
            for (int i = 0; i < 5; ++i) co_await kevring::yield();
        }
        const auto is_closed = [](const kevring::fd& client) {
            char byte = 0;
            const ssize_t count = ::recv(client.number(), &byte, 1, MSG_DONTWAIT);
            return count == 0 || (count < 0 && errno == ECONNRESET);
        };
        REQUIRE(::fcntl(accepting.native().number(), F_SETFL, O_NONBLOCK) == 0);
        for (std::size_t i = 1; i < clients.size(); ++i) {
            while (!is_closed(clients[i])) {
                // The last packet of its handshake may have been late for the stream.
                const kevring::fd late(
                    ::accept4(accepting.native().number(), nullptr, nullptr, SOCK_CLOEXEC));
                const auto slept = co_await kevring::sleep_for(1ms);
                REQUIRE(slept.has_value());
            }
        }
    };
    run_on(loop, body);
}

// Another process may continue with the listening socket: the remaining ones must be returned here.
TEST_CASE("a finished accept stream gives every connection that the kernel took for it",
          "[runtime][accept][multishot]") {
    for (const bool armed : {false, true}) {
        CAPTURE(armed);
        ring loop;
        const loopback_listener accepting;
        auto body = [&]() -> task<void> {
            kevring::accept_stream stream(loop, accepting.native());
            std::vector<kevring::fd> clients;
            std::size_t given = 0;
            if (armed) {
                clients.push_back(accepting.dial());
                const auto first = co_await stream.next();
                given += first ? 1 : 0;
            }
            for (int i = 0; i < 5; ++i) clients.push_back(accepting.dial());

            stream.stop_accepting();
            stream.stop_accepting();
            while (true) {
                const auto more = co_await stream.next();
                if (!more) {
                    CHECK(more.error() == std::errc::operation_canceled);
                    break;
                }
                ++given;
            }

            // The rest waits in the kernel.
            while (given < clients.size()) {
                kevring::accept_operation accept(loop, accepting.native());
                const auto limit = co_await kevring::within(10s);
                const auto other = co_await accept;
                REQUIRE(other.has_value());
                ++given;
            }
            CHECK(given == clients.size());
            const auto none = co_await stream.next();
            CHECK(!none.has_value());
        };
        run_on(loop, body);
    }
}

TEST_CASE("finishing an accept stream ends who waits for it", "[runtime][accept][multishot]") {
    ring loop;
    const loopback_listener accepting;
    auto body = [&]() -> task<void> {
        kevring::accept_stream stream(loop, accepting.native());
        auto wait = [&]() -> task<void> {
            const auto none = co_await stream.next();
            REQUIRE(!none.has_value());
            CHECK(none.error() == std::errc::operation_canceled);
        };
        kevring::task_scope waiting(loop);
        waiting.spawn(wait());
        co_await kevring::yield();
        stream.stop_accepting();
        co_await waiting.join();
    };
    run_on(loop, body);
}

TEST_CASE("a poll stream gives edges, merged", "[runtime][poll][multishot]") {
    ring loop;
    const kevring::fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    auto body = [&]() -> task<void> {
        kevring::poll_stream stream(loop, event, POLLIN);
        for (int i = 0; i < 10; ++i) {
            for (int writes = 0; writes < 3; ++writes)
                REQUIRE(::eventfd_write(event.number(), 1) == 0);
            const auto ready = co_await stream.next();
            CHECK((ready.value() & POLLIN) != 0);
            eventfd_t count = 0;
            REQUIRE(::eventfd_read(event.number(), &count) == 0);
        }
        const auto limit = co_await kevring::within(1ms);
        auto more = co_await stream.next();
        while (more) more = co_await stream.next();  // an edge may be left; then there is none
        CHECK(more.error() == std::errc::timed_out);
    };
    run_on(loop, body);
}

TEST_CASE("a descriptor that cannot be polled is an error", "[runtime][poll]") {
    ring loop;
    auto body = [&]() -> task<void> {
        kevring::poll_stream stream(loop, kevring::fd_ref(1'000'000), POLLIN);
        const auto ready = co_await stream.next();
        CHECK(ready.error() == std::errc::bad_file_descriptor);
    };
    run_on(loop, body);
}

// A stop in the iteration that queued the request ends the wait before the kernel knows of the
// request: the descriptor may be closed then, and its number be given to another file.
TEST_CASE("no request of a wait that has ended is left in the submission queue",
          "[runtime][multishot][descriptor]") {
    enum class ending { stop, deadline, winner, exception };
    for (const stream_kind& each : stream_kinds()) {
        for (const ending way :
             {ending::stop, ending::deadline, ending::winner, ending::exception}) {
            CAPTURE(each.name, static_cast<int>(way));
            scripted_kernel script;
            ring loop({}, script);
            socket_pair sockets;
            auto await = [&]() -> task<void> {
                const std::error_code error = co_await each.await_once(loop, sockets.local());
                CHECK((error == std::errc::operation_canceled || error == std::errc::timed_out));
                sockets.close_local();
            };
            auto fail = []() -> task<void> {
                co_await kevring::yield();
                throw std::runtime_error("sibling");
            };
            auto win = []() -> task<void> { co_return; };
            auto body = [&]() -> task<void> {
                static_cast<void>(co_await kevring::nop_operation(
                    loop));  // from here on this runs while the ring reaps
                if (way == ending::stop) {
                    task_scope side(loop);
                    side.spawn(await());
                    side.request_stop();
                    co_await side.join();
                } else if (way == ending::deadline) {
                    const auto limit = co_await kevring::within(0ns);
                    co_await await();
                } else if (way == ending::winner) {
                    co_await kevring::when_any(await(), win());
                } else {
                    try {
                        co_await kevring::when_all(await(), fail());
                    } catch (const std::runtime_error&) {}
                }
                co_await kevring::yield();
                co_await kevring::yield();
            };
            run_on(loop, body);
            const bool in_time = way == ending::deadline || way == ending::exception;
            // Those that another iteration ends have been submitted by then, and are cancelled.
            CHECK(script.submitted(each.opcode) <= (in_time ? 1U : 0U));
            CHECK(loop.requests_in_flight() == 0);
        }
    }
}

TEST_CASE("a receive that is taken back takes no bytes of the next file with its number",
          "[runtime][receive][multishot][descriptor]") {
    ring loop;
    auto body = [&]() -> task<void> {
        for (int round = 0; round < 20; ++round) {
            static_cast<void>(co_await kevring::nop_operation(loop));
            socket_pair old;
            const int number = old.local().number();
            auto await = [&]() -> task<void> {
                receive_stream stream(loop, old.local());
                const auto got = co_await stream.next();
                CHECK(got.error() == std::errc::operation_canceled);
            };
            task_scope side(loop);
            side.spawn(await());
            side.request_stop();
            co_await side.join();
            old.close_local();
            socket_pair next;
            REQUIRE(next.local().number() == number);
            next.send_from_peer("twelve bytes");
            co_await kevring::yield();
            co_await kevring::yield();
            char bytes[16];
            CHECK(::recv(number, bytes, sizeof bytes, MSG_DONTWAIT) == 12);
        }
    };
    run_on(loop, body);
}

TEST_CASE("a stream may go after its wait was stopped and before the waiter runs",
          "[runtime][multishot]") {
    for (const bool in_kernel : {false, true}) {
        CAPTURE(in_kernel);
        ring loop;
        socket_pair sockets;
        auto body = [&]() -> task<void> {
            auto stream = std::make_unique<receive_stream>(loop, sockets.local());
            auto events = std::make_unique<poll_stream>(loop, sockets.local(), POLLIN);
            unsigned ended = 0;
            auto wait = [&ended](auto& from) -> task<void> {
                const auto got = co_await from.next();
                CHECK(got.error() == std::errc::operation_canceled);
                ++ended;
            };
            task_scope side(loop);
            side.spawn(wait(*stream));
            side.spawn(wait(*events));
            if (in_kernel) {
                co_await kevring::yield();
                co_await kevring::yield();
            }
            side.request_stop();
            stream.reset();
            events.reset();
            CHECK(ended == 0);
            co_await side.join();
            CHECK(ended == 2);
        };
        run_on(loop, body);
    }
}

TEST_CASE("a second wait for a stream ends with an error, and the first continues",
          "[runtime][multishot]") {
    ring loop;
    socket_pair sockets;
    auto body = [&]() -> task<void> {
        receive_stream stream(loop, sockets.local());
        auto first = [&]() -> task<void> {
            const auto got = co_await stream.next();
            CHECK(text_of(got.value()) == "for the first");
        };
        task_scope side(loop);
        side.spawn(first());
        for (int i = 0; i < 3; ++i) {
            const auto second = co_await stream.next();
            CHECK(second.error() == std::errc::connection_already_in_progress);
        }
        sockets.send_from_peer("for the first");
        co_await side.join();
    };
    run_on(loop, body);
}

// The inline budget is used up by the loop of next(), so that some waits go through the run queue.
TEST_CASE("a second wait takes nothing from one that has its item", "[runtime][multishot]") {
    ring loop;
    buffer_pool pool(loop, {.buffer_bytes = 64, .buffer_count = 32});
    socket_pair sockets;
    auto body = [&]() -> task<void> {
        receive_stream stream(loop, sockets.local(), pool);
        sockets.send_from_peer(std::string(64 * 4, 'x'));
        {
            const auto got = co_await stream.next();
            CHECK(got->size() == 64);
        }
        while (loop.spend_inline_budget()) {}
        auto first = [&]() -> task<void> {
            const auto got = co_await stream.next();
            CHECK(got->size() == 64);
        };
        task_scope side(loop);
        side.spawn(first());
        const auto second = co_await stream.next();
        CHECK((second.has_value() || second.error() == std::errc::connection_already_in_progress));
        co_await side.join();
    };
    run_on(loop, body);
}

TEST_CASE("a stream that was moved from has no descriptor", "[runtime][multishot]") {
    ring loop;
    socket_pair sockets;
    auto body = [&]() -> task<void> {
        receive_stream stream(loop, sockets.local());
        receive_stream other = std::move(stream);
        const auto none = co_await stream.next();  // NOLINT(bugprone-use-after-move)
        CHECK(none.error() == std::errc::bad_file_descriptor);
        sockets.send_from_peer("here");
        const auto got = co_await other.next();
        CHECK(text_of(got.value()) == "here");
    };
    run_on(loop, body);
}

// Linux before 6.5 answers a cancelled receive like one that found no buffer.
TEST_CASE("a receive that was paused has not starved", "[runtime][receive][multishot]") {
    for (const int error : {ECANCELED, ENOBUFS}) {
        CAPTURE(error);
        scripted_kernel script;
        script.answer_cancelled(IORING_OP_RECV, error);
        ring loop({}, script);
        buffer_pool pool(loop, {.buffer_bytes = 64, .buffer_count = 64, .buffer_count_max = 64});
        socket_pair sockets;
        auto body = [&]() -> task<void> {
            receive_stream stream(loop, sockets.local(), pool);
            sockets.send_from_peer("x");
            {
                const auto got = co_await stream.next();
                CHECK(got.has_value());
            }
            const std::string much(64 * 40, 'm');
            sockets.send_from_peer(much);
            for (int i = 0; i < 10; ++i) co_await kevring::yield();
            sockets.close_peer();
            const std::string all = co_await all_of(stream);
            CHECK(all == much);
        };
        run_on(loop, body);
        CHECK(pool.starved_count() == 0);
        CHECK(pool.buffer_count() == 64);
    }
}
