// Asio in both directions: awaitables under its completion tokens, its operations under our tasks.
#include "tests/support/catch.hpp"
#include "tests/support/loop_thread.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/net/asio/async_run.hpp>
#include <kevring/net/asio/from_asio.hpp>
#include <kevring/net/asio/io_context_in_ring.hpp>
#include <kevring/net/asio/ring_executor.hpp>
#include <kevring/net/asio/stream.hpp>
#include <kevring/runtime/reset_event.hpp>

#include <asio/bind_cancellation_slot.hpp>
#include <asio/bind_executor.hpp>
#include <asio/co_spawn.hpp>
#include <asio/completion_condition.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/post.hpp>
#include <asio/read.hpp>
#include <asio/read_until.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/use_future.hpp>
#include <asio/write.hpp>
#if __has_include(<asio/deferred.hpp>)
#include <asio/deferred.hpp>
using asio::deferred;
#else  // before Asio 1.24
#include <asio/experimental/deferred.hpp>
using asio::experimental::deferred;
#endif

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <future>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

using kevring::async_run;
using kevring::executor_of;
using kevring::from_asio;
using kevring::result;
using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

namespace {

kevring::fd copy_of(kevring::fd_ref descriptor) { return kevring::fd(::dup(descriptor.number())); }

task<int> seven() {
    co_await kevring::yield();
    co_return 7;
}
task<int> throwing() {
    co_await kevring::yield();
    throw std::runtime_error("on purpose");
}
task<result<int>> failing() {
    co_await kevring::yield();
    co_return kevring::error_from(std::errc::timed_out);
}
task<result<void>> sleep_long() { co_return co_await kevring::sleep_for(1h); }

// Drives the ring until `done`, for at most the deadline of a test.
template <class Condition>
bool drive(ring& loop, Condition done) {
    const auto end = std::chrono::steady_clock::now() + test_deadline;
    while (!done() && std::chrono::steady_clock::now() < end) {
        loop.run_once(false);
        std::this_thread::yield();
    }
    return done();
}

kevring::ring_executor executor_on_thread_of(ring& loop) {
    std::promise<kevring::ring_executor> made;
    kevring::post(loop, [&] { made.set_value(kevring::executor_of(loop)); });
    return made.get_future().get();
}

}  // namespace

TEST_CASE("an awaitable completes a callback, a future and an Asio coroutine", "[net][asio]") {
    loop_thread other;
    const kevring::ring_executor executor = executor_on_thread_of(other.loop());
    std::future<int> value = async_run(executor, seven(), asio::use_future);
    CHECK(value.get() == 7);
    std::future<int> failure = async_run(executor, throwing(), asio::use_future);
    CHECK_THROWS_AS(failure.get(), std::runtime_error);

    asio::io_context context;
    std::error_code error;
    std::optional<int> from_coroutine;
    std::thread::id ran_on;
    auto session = [&]() -> asio::awaitable<void> {
        from_coroutine = co_await async_run(executor, seven(), asio::use_awaitable);
        ran_on = std::this_thread::get_id();
        try {
            const int none = co_await async_run(executor, failing(), asio::use_awaitable);
            from_coroutine = none;
        } catch (const std::system_error& caught) {
            error = caught.code();
        }
    };
    asio::co_spawn(context, session(), asio::detached);
    context.run();  // the pending operations are work of the io_context

    CHECK(from_coroutine == 7);
    CHECK(ran_on == std::this_thread::get_id());
    CHECK(error == asio::error::timed_out);
}

TEST_CASE("a handler without an executor is called on the ring", "[net][asio]") {
    ring loop;
    std::optional<int> value;
    const ring* called_on = nullptr;
    async_run(loop, seven(), [&](const std::exception_ptr& failure, int result) {
        if (!failure) value = result;
        called_on = ring::current();
    });

    REQUIRE(drive(loop, [&] { return value.has_value(); }));
    CHECK(value == 7);
    CHECK(called_on == &loop);
}

TEST_CASE("a deferred awaitable starts when it is given a token", "[net][asio]") {
    ring loop;
    bool started = false;
    auto work = [&]() -> task<int> {
        started = true;
        co_return 7;
    };
    auto operation = async_run(loop, work(), deferred);
    loop.run_once(false);
    CHECK_FALSE(started);

    std::optional<int> value;
    std::move(operation)([&](const std::exception_ptr& failure, int result) {
        if (!failure) value = result;
    });
    REQUIRE(drive(loop, [&] { return value.has_value(); }));
    CHECK(value == 7);
}

TEST_CASE("a cancellation slot stops the awaitable", "[net][asio]") {
    ring loop;
    asio::cancellation_signal cancel;
    std::optional<asio::error_code> error;
    async_run(loop, sleep_long(),
              asio::bind_cancellation_slot(cancel.slot(), [&](asio::error_code e) { error = e; }));
    for (int i = 0; i < 3; ++i) loop.run_once(false);
    CHECK_FALSE(error.has_value());

    cancel.emit(asio::cancellation_type::terminal);
    REQUIRE(drive(loop, [&] { return error.has_value(); }));

    CHECK(*error == asio::error::operation_aborted);
    CHECK_FALSE(cancel.slot().has_handler());
}

TEST_CASE("the destructor of a ring completes the handlers of its awaitables", "[net][asio]") {
    std::optional<asio::error_code> error;
    {
        ring loop;
        async_run(loop, sleep_long(), [&](asio::error_code e) { error = e; });
        for (int i = 0; i < 3; ++i) loop.run_once(false);
    }

    REQUIRE(error.has_value());
    CHECK(*error == asio::error::operation_aborted);
}

TEST_CASE("functions, timers and coroutines of Asio run on a ring", "[net][asio]") {
    ring loop;
    const auto executor = executor_of(loop);
    const asio::any_io_executor any = executor;
    CHECK(any == asio::any_io_executor(executor_of(loop)));
    int posted_count = 0;
    asio::post(executor, [&] { ++posted_count; });
    asio::post(any, [&] { ++posted_count; });
    CHECK(posted_count == 0);

    asio::steady_timer timer(executor, 1ms);
    const ring* fired_on = nullptr;
    timer.async_wait([&](const asio::error_code& error) {
        if (!error) fired_on = ring::current();
    });
    bool ended = false;
    auto coroutine = [&]() -> asio::awaitable<void> {
        asio::steady_timer own(co_await asio::this_coro::executor, 1ms);
        co_await own.async_wait(asio::use_awaitable);
        ended = true;
    };
    asio::co_spawn(executor, coroutine(), asio::detached);

    CHECK(drive(loop, [&] { return posted_count == 2 && fired_on == &loop && ended; }));
}

TEST_CASE("a task awaits an operation of Asio", "[net][asio]") {
    ring loop;
    socket_pair pair;
    asio::local::stream_protocol::socket peer(executor_of(loop));
    peer.assign(asio::local::stream_protocol(), copy_of(pair.local()).release());
    auto body = [&]() -> task<std::string> {
        std::array<char, 16> buffer{};
        pair.send_from_peer("hello");
        auto read = [&](auto token) { return peer.async_read_some(asio::buffer(buffer), token); };
        const result<std::size_t> count = co_await from_asio(read);
        CHECK(count.value() == 5);
        const result<std::size_t> late = co_await kevring::with_timeout(from_asio(read), 1ms);
        CHECK(late.error() == std::errc::timed_out);
        pair.close_peer();
        const result<std::size_t> ended =
            co_await peer.async_read_some(asio::buffer(buffer), kevring::use_kevring);
        CHECK(ended.error() == asio::error_code(asio::error::eof));
        co_return std::string(buffer.data(), 5);
    };

    CHECK(run_on(loop, body) == "hello");
}

TEST_CASE("a stop ends an operation of Asio, also before it starts", "[net][asio]") {
    ring loop;
    asio::steady_timer timer(executor_of(loop), 1h);
    auto body = [&]() -> task<void> {
        kevring::task_scope stopped(loop);
        std::vector<std::error_code> errors;
        auto wait = [&]() -> task<void> {
            const result<void> waited = co_await timer.async_wait(kevring::use_kevring);
            if (!waited) errors.push_back(waited.error());
        };
        stopped.spawn(wait());
        co_await kevring::yield();
        stopped.request_stop();
        stopped.spawn(wait());
        co_await stopped.join();
        CHECK(errors.size() == 2);
        for (const std::error_code& each : errors) CHECK(each == std::errc::operation_canceled);
    };

    run_on(loop, body);
}

TEST_CASE("an operation whose io_context is destroyed ends with operation_canceled",
          "[net][asio]") {
    ring loop;
    auto context = std::make_unique<asio::io_context>();
    auto timer = std::make_unique<asio::steady_timer>(*context, 1h);
    auto body = [&]() -> task<std::error_code> {
        kevring::task_scope side(loop);
        std::error_code error;
        auto wait = [&]() -> task<void> {
            const result<void> waited = co_await timer->async_wait(kevring::use_kevring);
            error = waited.error();
        };
        side.spawn(wait());
        co_await kevring::yield();
        context.reset();
        co_await side.join();
        co_return error;
    };

    CHECK(run_on(loop, body) == std::errc::operation_canceled);
    // Its io_context does not exist any more, so it is kept, where a leak checker sees it.
    static asio::steady_timer* kept = nullptr;
    kept = timer.release();
    CHECK(kept != nullptr);
}

TEST_CASE("a task awaits a coroutine of Asio", "[net][asio]") {
    ring loop;
    auto coroutine = []() -> asio::awaitable<int> {
        asio::steady_timer timer(co_await asio::this_coro::executor, 1ms);
        co_await timer.async_wait(asio::use_awaitable);
        co_return 4;
    };
    auto failing_coroutine = []() -> asio::awaitable<int> {
        throw std::runtime_error("on purpose");
        co_return 1;
    };
    auto body = [&]() -> task<int> {
        const int value =
            co_await asio::co_spawn(executor_of(loop), coroutine(), kevring::use_kevring);
        try {
            co_return co_await asio::co_spawn(executor_of(loop), failing_coroutine(),
                                              kevring::use_kevring);
        } catch (const std::runtime_error&) {
            co_return value;
        }
    };

    CHECK(run_on(loop, body) == 4);
}

TEST_CASE("the algorithms of Asio read and write a socket of this library", "[net][asio]") {
    ring loop;
    socket_pair pair;
    auto body = [&]() -> task<std::string> {
        kevring::asio_stream stream(kevring::socket(loop, copy_of(pair.local())));
        std::string text;
        pair.send_from_peer("one\ntwo");
        const result<std::size_t> line = co_await asio::async_read_until(
            stream, asio::dynamic_buffer(text), '\n', kevring::use_kevring);
        CHECK(line.value() == 4);
        CHECK(text.substr(0, 4) == "one\n");
        text.erase(0, 4);
        pair.send_from_peer("\n");
        const result<std::size_t> next = co_await asio::async_read_until(
            stream, asio::dynamic_buffer(text), '\n', kevring::use_kevring);
        CHECK(next.value() == 4);
        const std::string left = "answer";
        const std::string right(100'000, 'x');
        const std::array<asio::const_buffer, 3> parts{asio::buffer(left), asio::const_buffer(),
                                                      asio::buffer(right)};
        const result<std::size_t> written =
            co_await asio::async_write(stream, parts, kevring::use_kevring);
        CHECK(written.value() == left.size() + right.size());
        pair.drain_peer(left.size() + right.size());  // unread bytes would be a reset
        pair.close_peer();
        const result<std::size_t> ended =
            co_await asio::async_read(stream, asio::dynamic_buffer(text), kevring::use_kevring);
        CHECK(ended.error() == asio::error_code(asio::error::eof));
        co_return text;
    };

    CHECK(run_on(loop, body) == "two\n");
}

// The rules that Asio requires of its own stream sockets.
TEST_CASE("empty buffers end at once, and a read that is canceled takes no byte", "[net][asio]") {
    ring loop;
    socket_pair pair;
    auto body = [&]() -> task<void> {
        kevring::asio_stream stream(kevring::socket(loop, copy_of(pair.local())));
        std::array<char, 4> buffer{};
        const asio::mutable_buffer no_room;
        const result<std::size_t> nothing_read =
            co_await stream.async_read_some(no_room, kevring::use_kevring);
        CHECK(nothing_read.value() == 0);
        const asio::const_buffer no_bytes;
        const result<std::size_t> nothing_written =
            co_await stream.async_write_some(no_bytes, kevring::use_kevring);
        CHECK(nothing_written.value() == 0);

        asio::cancellation_signal cancel;
        kevring::manual_reset_event called;
        asio::error_code error;
        std::size_t count = 1;
        stream.async_read_some(
            asio::buffer(buffer),
            asio::bind_cancellation_slot(cancel.slot(), [&](asio::error_code e, std::size_t read) {
                error = e;
                count = read;
                called.set();
            }));
        for (int i = 0; i < 3; ++i) co_await kevring::yield();  // it waits in the kernel
        cancel.emit(asio::cancellation_type::terminal);
        const auto ended = co_await called.wait();
        CHECK(ended.has_value());
        CHECK(error == asio::error::operation_aborted);
        CHECK(count == 0);

        pair.send_from_peer("abcdef");
        const result<std::size_t> first =
            co_await stream.async_read_some(asio::buffer(buffer), kevring::use_kevring);
        CHECK(first.value() == 4);
        CHECK(std::string(buffer.data(), 4) == "abcd");
        pair.close_peer();
        const result<std::size_t> rest =
            co_await stream.async_read_some(asio::buffer(buffer), kevring::use_kevring);
        CHECK(rest.value() == 2);
        for (int i = 0; i < 2; ++i) {  // the end is reported each time
            const result<std::size_t> end =
                co_await stream.async_read_some(asio::buffer(buffer), kevring::use_kevring);
            CHECK(end.error() == asio::error_code(asio::error::eof));
        }
    };
    run_on(loop, body);
}

TEST_CASE("an io_context drives a ring on its own thread", "[net][asio]") {
    asio::io_context context(1);
    ring loop;
    int count = 0;
    {
        kevring::ring_in_io_context driven(context, loop);
        const std::thread::id here = std::this_thread::get_id();
        socket_pair pair;
        std::jthread sender;
        asio::steady_timer guard(context, test_deadline);
        auto body = [&]() -> task<void> {
            static_cast<void>(co_await kevring::sleep_for(1ms));
            kevring::socket connection(loop, copy_of(pair.local()));
            sender = std::jthread([&] { pair.send_from_peer("x"); });
            const auto received = co_await connection.receive();
            if (received && received->size() == 1 && std::this_thread::get_id() == here) ++count;
            asio::steady_timer timer(context, 1ms);
            const result<void> waited = co_await timer.async_wait(kevring::use_kevring);
            if (waited) ++count;
            guard.cancel();
            driven.stop();
        };
        kevring::spawn(loop, body());
        guard.async_wait([&](const asio::error_code& error) {
            if (!error) driven.stop();
        });
        context.run();
    }

    CHECK(count == 2);
}

TEST_CASE("a ring runs the handlers of an io_context on its own thread", "[net][asio]") {
    ring loop;
    auto body = [&]() -> task<int> {
        asio::io_context context(1);
        kevring::io_context_in_ring driven(loop, context);
        const std::thread::id here = std::this_thread::get_id();
        int count = 0;
        asio::steady_timer timer(context, 1ms);
        const result<void> waited = co_await timer.async_wait(kevring::use_kevring);
        if (waited) ++count;

        using local_socket = asio::local::stream_protocol::socket;
        local_socket left(context);
        local_socket right(context);
        asio::local::connect_pair(left, right);
        std::string text;
        kevring::manual_reset_event read;
        asio::async_read_until(right, asio::dynamic_buffer(text), '\n',
                               [&](asio::error_code error, std::size_t) {
                                   if (!error && std::this_thread::get_id() == here) ++count;
                                   read.set();
                               });
        co_await kevring::yield();
        const result<std::size_t> wrote =
            co_await asio::async_write(left, asio::buffer("line\n", 5), kevring::use_kevring);
        if (wrote && *wrote == 5) ++count;
        static_cast<void>(co_await read.wait());

        kevring::manual_reset_event posted;
        std::jthread other([&] {
            asio::post(context, [&] {
                if (std::this_thread::get_id() == here) ++count;
                posted.set();
            });
            driven.wake();
        });
        static_cast<void>(co_await posted.wait());
        co_return count;
    };

    CHECK(run_on(loop, body) == 4);
}

TEST_CASE("wake() ends the pause of an idle io_context", "[net][asio]") {
    scripted_kernel script;
    script.clock_ns = 1'000'000'000;
    ring loop({}, script);
    auto body = [&]() -> task<std::int64_t> {
        asio::io_context context(1);
        kevring::io_context_in_ring driven(loop, context, 1h);
        static_cast<void>(co_await kevring::sleep_for(1s));  // the pause is longer than 0.5 s now
        kevring::manual_reset_event called;
        asio::post(context, [&] { called.set(); });
        const std::int64_t posted_at_ns = *script.clock_ns;

        driven.wake();

        static_cast<void>(co_await called.wait());
        co_return *script.clock_ns - posted_at_ns;
    };

    CHECK(run_on(loop, body) < 1'000'000);
}

TEST_CASE("an io_context that always has work holds up no coroutine of its ring", "[net][asio]") {
    ring loop;
    auto body = [&]() -> task<int> {
        asio::io_context context(1);
        kevring::io_context_in_ring driven(loop, context);
        int handler_count = 0;
        std::function<void()> again = [&] {
            ++handler_count;
            asio::post(context, again);
        };
        again();
        for (int i = 0; i < 100; ++i) co_await kevring::yield();
        driven.stop();
        const int at_stop = handler_count;
        for (int i = 0; i < 100; ++i) co_await kevring::yield();
        CHECK(handler_count == at_stop);
        co_return handler_count;
    };

    CHECK(run_on(loop, body) > 1);
}

TEST_CASE("the end of a ring, and of an io_context, end the driving", "[net][asio]") {
    asio::io_context context(1);
    std::optional<kevring::io_context_in_ring> driven;
    int count = 0;
    {
        ring loop;
        driven.emplace(loop, context);
        asio::post(context, [&] { ++count; });
        REQUIRE(drive(loop, [&] { return count == 1; }));
    }  // the destructor of the ring ends the task that drives
    driven.reset();

    context.restart();  // it has stopped, as its work has ended
    ring loop;
    kevring::io_context_in_ring again(loop, context);
    asio::post(context, [&] {
        ++count;
        context.stop();
        asio::post(context, [&] { ++count; });
    });
    REQUIRE(drive(loop, [&] { return count == 2; }));
    for (int i = 0; i < 10; ++i) loop.run_once(false);
    CHECK(count == 2);
}
