// The pool that multishot receives take their buffers from.
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"
#include "tests/support/received.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/detail/buffer_pool_state.hpp>
#include <kevring/runtime/operations/receive.hpp>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <sys/socket.h>

using kevring::borrowed_buffer;
using kevring::buffer_pool;
using kevring::receive_stream;
using kevring::ring;
using kevring::task;
using kevring::task_scope;
using namespace std::chrono_literals;

namespace {

// The buffers that a receive of each socket has borrowed, and the streams, which continue.
struct borrowed_by_each {
    std::vector<borrowed_buffer> buffers;
    std::vector<std::unique_ptr<receive_stream>> streams;
};

task<borrowed_by_each> receive_by_each(ring& loop, buffer_pool& pool,
                                       std::vector<socket_pair>& pairs) {
    borrowed_by_each made;
    for (socket_pair& each : pairs) {
        each.send_from_peer("x");
        made.streams.push_back(std::make_unique<receive_stream>(loop, each.local(), pool));
        auto got = co_await made.streams.back()->next();
        REQUIRE(got.has_value());
        made.buffers.push_back(std::move(*got));
    }
    co_return made;
}

}  // namespace

TEST_CASE("the pool grows when the kernel finds no buffer", "[runtime][buffer_pool]") {
    ring loop;
    buffer_pool pool(loop, {.buffer_bytes = 64, .buffer_count = 1, .buffer_count_max = 64});
    std::vector<socket_pair> pairs(40);
    auto body = [&]() -> task<void> {
        auto held = co_await receive_by_each(loop, pool, pairs);
        CHECK(pool.borrowed_count() == 40);
        CHECK(pool.buffer_count() >= 40);
        held.buffers.clear();
        CHECK(pool.borrowed_count() == 0);
    };
    run_on(loop, body);
}

// The kernel reports to each of them that there was no buffer, all in one loop iteration.
TEST_CASE("a pool grows by what a burst needs, not by how many it had to refuse",
          "[runtime][buffer_pool]") {
    ring loop;
    buffer_pool pool(loop, {.buffer_bytes = 64, .buffer_count = 16, .buffer_count_max = 4096});
    std::vector<socket_pair> pairs(300);
    for (socket_pair& each : pairs) each.send_from_peer("x");
    std::vector<borrowed_buffer> held;
    const auto receive_one = [&](socket_pair& from) -> task<void> {
        receive_stream stream(loop, from.local(), pool);
        auto got = co_await stream.next();
        REQUIRE(got.has_value());
        held.push_back(std::move(*got));
    };
    auto body = [&]() -> task<void> {
        task_scope receivers(loop);
        for (socket_pair& each : pairs) receivers.spawn(receive_one(each));
        co_await receivers.join();
        CHECK(pool.starved_count() > 100);
        CHECK(pool.buffer_count() >= 300);
        CHECK(pool.buffer_count() <= 600);
        held.clear();
    };
    run_on(loop, body);
}

TEST_CASE("a pool gives memory back when a burst is over", "[runtime][buffer_pool]") {
    ring loop;
    buffer_pool pool(loop, {.buffer_bytes = 4096, .buffer_count = 4, .buffer_count_max = 512});
    std::vector<socket_pair> pairs(400);
    auto body = [&]() -> task<void> {
        for (int round = 0; round < 2; ++round) {
            auto held = co_await receive_by_each(loop, pool, pairs);
            CHECK(pool.buffer_count() >= 400);
            held.buffers.clear();
            CHECK(pool.buffer_count() < 250);
        }
    };
    run_on(loop, body);
}

TEST_CASE("an answer that there was no buffer is dealt with, not reported",
          "[runtime][buffer_pool]") {
    scripted_kernel script;
    ring loop({}, script);
    buffer_pool pool(loop, {.buffer_bytes = 64, .buffer_count = 4, .buffer_count_max = 64});
    socket_pair sockets;
    script.fail(IORING_OP_RECV, ENOBUFS, 3);
    auto body = [&]() -> task<void> {
        receive_stream stream(loop, sockets.local(), pool);
        sockets.send_from_peer("x");
        const auto got = co_await stream.next();
        CHECK(text_of(got.value()) == "x");
    };
    run_on(loop, body);
    CHECK(pool.starved_count() == 3);
    CHECK(pool.buffer_count() == 32);
}

TEST_CASE("while all buffers are in use, a receiver waits until one is returned",
          "[runtime][buffer_pool]") {
    ring loop;
    buffer_pool pool(loop, {.buffer_bytes = 64, .buffer_count = 2, .buffer_count_max = 2});
    std::vector<socket_pair> pairs(5);
    unsigned done_count = 0;
    auto receive_one = [&](socket_pair& from,
                           std::optional<borrowed_buffer>& target) -> task<void> {
        receive_stream stream(loop, from.local(), pool);
        auto got = co_await stream.next();
        REQUIRE(got.has_value());
        CHECK(text_of(*got) == "x");
        target = std::move(*got);
        ++done_count;
    };
    auto body = [&]() -> task<void> {
        std::vector<std::optional<borrowed_buffer>> held(pairs.size());
        task_scope all(loop);
        for (std::size_t i = 0; i < pairs.size(); ++i) {
            pairs[i].send_from_peer("x");
            all.spawn(receive_one(pairs[i], held[i]));
        }
        for (int i = 0; i < 20; ++i) co_await kevring::yield();
        CHECK(done_count == 2);
        while (done_count < pairs.size()) {
            for (auto& each : held) each.reset();
            co_await kevring::yield();
        }
        held.clear();
        co_await all.join();
    };
    run_on(loop, body);
    CHECK(pool.borrowed_count() == 0);
}

// Peers that send ahead while no task reads may hold all the pool; none of their bytes is lost.
TEST_CASE("streams that no task reads starve no other", "[runtime][buffer_pool]") {
    ring loop;
    buffer_pool pool(loop, {.buffer_bytes = 64, .buffer_count = 4, .buffer_count_max = 4});
    constexpr std::size_t deaf_count = 6;
    std::vector<socket_pair> pairs(deaf_count);
    socket_pair asking;
    std::string sent_ahead;
    for (int i = 0; i < 500; ++i) sent_ahead += std::to_string(i) + ' ';
    auto body = [&]() -> task<void> {
        std::vector<std::unique_ptr<receive_stream>> deaf;
        std::vector<std::string> received(deaf_count);
        for (std::size_t i = 0; i < deaf_count; ++i) {
            pairs[i].send_from_peer("x");
            deaf.push_back(std::make_unique<receive_stream>(loop, pairs[i].local(), pool));
            const auto got = co_await deaf.back()->next();
            CHECK(text_of(got.value()) == "x");
        }
        for (socket_pair& each : pairs) each.send_from_peer(sent_ahead);
        for (int i = 0; i < 20; ++i) co_await kevring::yield();  // all buffers are taken
        receive_stream other(loop, asking.local(), pool);
        for (int i = 0; i < 20; ++i) {
            asking.send_from_peer("?");
            const auto got = co_await other.next();
            CHECK(text_of(got.value()) == "?");
        }
        CHECK(pool.buffer_count() == 4);
        for (socket_pair& each : pairs) REQUIRE(::shutdown(each.peer().number(), SHUT_WR) == 0);
        for (std::size_t i = 0; i < deaf_count - 1; ++i) {  // the last one goes with what it holds
            received[i] = co_await all_of(*deaf[i]);
            CHECK(received[i] == sent_ahead);
        }
    };
    run_on(loop, body);
    CHECK(pool.borrowed_count() == 0);
}

TEST_CASE("bytes that had to make room are taken piece by piece, also when the pool was destroyed",
          "[runtime][buffer_pool]") {
    ring loop;
    auto pool = std::make_unique<buffer_pool>(
        loop,
        kevring::buffer_pool_options{.buffer_bytes = 64, .buffer_count = 1, .buffer_count_max = 1});
    socket_pair ahead;
    socket_pair asking;
    auto body = [&]() -> task<void> {
        receive_stream stream(loop, ahead.local(), *pool);
        receive_stream other(loop, asking.local(), *pool);
        ahead.send_from_peer("x");
        auto first = co_await stream.next();
        first->reset();
        ahead.send_from_peer("abcdef");
        asking.send_from_peer("?");
        auto answer = co_await other.next();
        REQUIRE(answer.has_value());
        answer->reset();
        auto got = co_await stream.next();
        REQUIRE(got.has_value());
        CHECK(text_of(*got) == "abcdef");
        got->remove_prefix(4);
        pool.reset();
        CHECK(text_of(*got) == "ef");
        got->remove_prefix(2);
        CHECK(got->empty());
    };
    run_on(loop, body);
}

// Only the kernel knows which waiting receiver has bytes: none may block another.
TEST_CASE("a returned buffer reaches a receiver that has bytes", "[runtime][buffer_pool]") {
    ring loop;
    buffer_pool pool(loop, {.buffer_bytes = 64, .buffer_count = 1, .buffer_count_max = 1});
    std::vector<socket_pair> pairs(20);
    socket_pair first_pair;
    unsigned received_count = 0;
    auto listen = [&](socket_pair& from) -> task<void> {
        receive_stream stream(loop, from.local(), pool);
        const auto got = co_await stream.next();
        if (got) ++received_count;
    };
    auto body = [&]() -> task<void> {
        receive_stream first(loop, first_pair.local(), pool);
        first_pair.send_from_peer("x");
        auto held = co_await first.next();
        REQUIRE(held.has_value());
        task_scope all(loop);
        for (socket_pair& each : pairs) all.spawn(listen(each));
        co_await kevring::yield();
        held->reset();
        pairs.back().send_from_peer("y");
        while (received_count == 0) {
            const auto limit = co_await kevring::within(5s);
            const auto slept = co_await kevring::sleep_for(1ms);
            if (!slept) break;
        }
        all.request_stop();
        co_await all.join();
    };
    run_on(loop, body);
    CHECK(received_count == 1);
}

TEST_CASE("buffers and streams may outlive their pool", "[runtime][buffer_pool]") {
    ring loop;
    socket_pair sockets;
    auto body = [&]() -> task<void> {
        std::optional<buffer_pool> pool(std::in_place, loop);
        receive_stream stream(loop, sockets.local(), *pool);
        sockets.send_from_peer("kept");
        const auto got = co_await stream.next();
        pool.reset();
        CHECK(text_of(got.value()) == "kept");
        sockets.send_from_peer("late");
        const auto late = co_await stream.next();
        if (!late) CHECK(late.error() == std::errc::no_buffer_space);
    };
    run_on(loop, body);
}

TEST_CASE("sizes that make no pool are refused", "[runtime][buffer_pool]") {
    ring loop;
    for (const kevring::buffer_pool_options& wrong :
         {kevring::buffer_pool_options{.buffer_bytes = 0},
          kevring::buffer_pool_options{.buffer_count = 0},
          kevring::buffer_pool_options{.buffer_count = 40'000}})
        CHECK_THROWS_AS(buffer_pool(loop, wrong), std::invalid_argument);
}

TEST_CASE("many pools come and go", "[runtime][buffer_pool]") {
    ring loop;
    for (int i = 0; i < 200; ++i) {
        const buffer_pool one(loop);
        const buffer_pool other(loop);
    }
}

// The number of its group would name the buffers of another pool otherwise.
TEST_CASE("the number of a destroyed pool is not reused while a request names it",
          "[runtime][buffer_pool]") {
    const bool submitted = GENERATE(true, false);
    CAPTURE(submitted);
    ring loop;
    socket_pair sockets;
    auto body = [&]() -> task<void> {
        auto pool = std::make_unique<buffer_pool>(
            loop, kevring::buffer_pool_options{
                      .buffer_bytes = 256, .buffer_count = 4, .buffer_count_max = 4});
        const std::uint16_t group = pool->state().group();
        receive_stream stream(loop, sockets.local(), *pool);
        auto wait = [&]() -> task<void> {
            const auto got = co_await stream.next();
            CHECK(got.error() == std::errc::no_buffer_space);
        };
        task_scope side(loop);
        side.spawn(wait());
        if (submitted) {
            co_await kevring::yield();
            co_await kevring::yield();
        }

        pool.reset();
        buffer_pool other(loop, {.buffer_bytes = 4096, .buffer_count = 64});
        CHECK(other.state().group() != group);
        sockets.send_from_peer("for the stream whose pool was destroyed");
        co_await side.join();
        for (int i = 0; i < 3; ++i) {
            const auto got = co_await stream.next();
            CHECK(got.error() == std::errc::no_buffer_space);
        }

        CHECK(other.borrowed_count() == 0);
        buffer_pool third(loop, {.buffer_count = 1});
        CHECK(third.state().group() == group);  // free, now that no request names it
    };
    run_on(loop, body);
}

TEST_CASE("a pool may go while receivers wait for its buffers", "[runtime][buffer_pool]") {
    ring loop;
    std::vector<socket_pair> pairs(4);
    auto body = [&]() -> task<void> {
        auto pool = std::make_unique<buffer_pool>(
            loop, kevring::buffer_pool_options{
                      .buffer_bytes = 64, .buffer_count = 1, .buffer_count_max = 1});
        receive_stream first(loop, pairs[0].local(), *pool);
        pairs[0].send_from_peer("held");
        const auto held = co_await first.next();
        REQUIRE(held.has_value());
        unsigned ended = 0;
        auto wait = [&](const socket_pair& sockets) -> task<void> {
            receive_stream stream(loop, sockets.local(), *pool);
            const auto got = co_await stream.next();
            CHECK(got.error() == std::errc::no_buffer_space);
            ++ended;
        };
        task_scope side(loop);
        for (std::size_t i = 1; i < pairs.size(); ++i) side.spawn(wait(pairs[i]));
        co_await kevring::yield();
        pool.reset();
        CHECK(ended == 0);  // nothing runs within the destructor
        co_await side.join();
        CHECK(ended == 3);
        CHECK(text_of(*held) == "held");
    };
    run_on(loop, body);
}

TEST_CASE("a buffer that is destroyed on another thread ends the process with a message",
          "[runtime][buffer_pool]") {
    const auto outcome = run_in_child([] {
        ring loop;
        socket_pair sockets;
        auto body = [&]() -> task<void> {
            receive_stream stream(loop, sockets.local());
            sockets.send_from_peer("x");
            auto got = co_await stream.next();
            std::thread([buffer = std::move(got.value())]() mutable { buffer.reset(); }).join();
        };
        run_on(loop, body);
    });
    CHECK(
        outcome.asserted("borrowed buffer destroyed on another thread than its ring's; copy its "
                         "bytes for the other thread"));
}
