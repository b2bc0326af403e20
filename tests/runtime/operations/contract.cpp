// Promises of every operation, tested with each: errors pass unchanged, a stop before, during and
// after has one outcome, and an expired deadline is reported as timed_out.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/operations/accept.hpp>
#include <kevring/runtime/operations/cancel.hpp>
#include <kevring/runtime/operations/connect.hpp>
#include <kevring/runtime/operations/fsync.hpp>
#include <kevring/runtime/operations/nop.hpp>
#include <kevring/runtime/operations/open.hpp>
#include <kevring/runtime/operations/poll.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/operations/send.hpp>
#include <kevring/runtime/operations/shutdown.hpp>
#include <kevring/runtime/operations/splice.hpp>
#include <kevring/runtime/operations/statx.hpp>
#include <kevring/runtime/operations/write.hpp>

#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>

using kevring::result;
using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

namespace {

// The test creates hundreds of rings, one after another. Linux frees closed rings with a delay, and
// newer kernels count their memory as locked by the user in the meantime.
constexpr kevring::ring_options small{.submission_entries = 8, .completion_entries = 16};

// Everything that the requests below need. It outlives them.
struct fixture {
    socket_pair sockets;
    kevring::fd pipe_out;
    kevring::fd pipe_in;
    kevring::fd file{::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
    kevring::fd listener{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    std::array<std::byte, 64> bytes{};
    iovec part{bytes.data(), bytes.size()};
    msghdr message{};
    struct statx status{};
    sockaddr_in address{};

    fixture() {
        std::array<int, 2> ends{};
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
        pipe_out.reset(ends[0]);
        pipe_in.reset(ends[1]);
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        address.sin_family = AF_INET;
        REQUIRE(::listen(listener.number(), 8) == 0);
    }
};

template <class Request>
task<std::error_code> error_of(Request request) {
    const auto answer = co_await request;
    co_return answer ? std::error_code() : answer.error();
}

struct kind {
    const char* name;
    std::uint8_t opcode;
    std::function<task<std::error_code>(ring&, fixture&, std::stop_token)> await;
};

const std::vector<kind>& kinds() {
    using namespace kevring;
    static const std::vector<kind> all{
        {"nop", IORING_OP_NOP,
         [](ring& loop, fixture&, std::stop_token stop) {
             return error_of(nop_operation(loop, stop));
         }},
        {"read", IORING_OP_READ,
         [](ring& loop, fixture& setup, std::stop_token stop) {
             return error_of(
                 read_operation(loop, setup.pipe_out, setup.bytes, file_position, stop));
         }},
        {"readv", IORING_OP_READV,
         [](ring& loop, fixture& setup, std::stop_token stop) {
             return error_of(
                 readv_operation(loop, setup.pipe_out, {&setup.part, 1}, file_position, stop));
         }},
        {"write", IORING_OP_WRITE,
         [](ring& loop, fixture& setup, std::stop_token stop) {
             return error_of(write_operation(loop, setup.file, setup.bytes, 0, stop));
         }},
        {"writev", IORING_OP_WRITEV,
         [](ring& loop, fixture& setup, std::stop_token stop) {
             return error_of(writev_operation(loop, setup.file, {&setup.part, 1}, 0, stop));
         }},
        {"open", IORING_OP_OPENAT2,
         [](ring& loop, fixture&, std::stop_token stop) {
             return error_of(open_operation(loop, fd_ref(AT_FDCWD), "/", O_PATH, 0, 0, stop));
         }},
        {"statx", IORING_OP_STATX,
         [](ring& loop, fixture& setup, std::stop_token stop) {
             return error_of(statx_operation(loop, fd_ref(AT_FDCWD), "/", 0, STATX_BASIC_STATS,
                                             setup.status, stop));
         }},
        {"accept", IORING_OP_ACCEPT,
         [](ring& loop, fixture& setup, std::stop_token stop) {
             return error_of(accept_operation(loop, setup.listener, nullptr, nullptr, stop));
         }},
        {"connect", IORING_OP_CONNECT,
         [](ring& loop, fixture& setup, std::stop_token stop) {
             return error_of(connect_operation(loop, setup.sockets.local(),
                                               reinterpret_cast<const sockaddr*>(&setup.address),
                                               sizeof setup.address, stop));
         }},
        {"receive", IORING_OP_RECV,
         [](ring& loop, fixture& setup, std::stop_token stop) {
             return error_of(receive_operation(loop, setup.sockets.local(), setup.bytes, 0, stop));
         }},
        {"send", IORING_OP_SEND,
         [](ring& loop, fixture& setup, std::stop_token stop) {
             return error_of(send_operation(loop, setup.sockets.local(), setup.bytes, 0, stop));
         }},
        {"send_message", IORING_OP_SENDMSG,
         [](ring& loop, fixture& setup, std::stop_token stop) {
             return error_of(
                 send_message_operation(loop, setup.sockets.local(), setup.message, 0, stop));
         }},
        {"shutdown", IORING_OP_SHUTDOWN,
         [](ring& loop, fixture& setup, std::stop_token stop) {
             return error_of(shutdown_operation(loop, setup.sockets.local(), SHUT_WR, stop));
         }},
        {"poll", IORING_OP_POLL_ADD,
         [](ring& loop, fixture& setup, std::stop_token stop) {
             return error_of(poll_operation(loop, setup.sockets.local(), POLLIN, stop));
         }},
        {"splice", IORING_OP_SPLICE,
         [](ring& loop, fixture& setup, std::stop_token stop) {
             return error_of(splice_operation(loop, setup.pipe_out, -1, setup.sockets.local(), -1,
                                              64, 0, stop));
         }},
        {"fsync", IORING_OP_FSYNC,
         [](ring& loop, fixture& setup, std::stop_token stop) {
             return error_of(fsync_operation(loop, setup.file, sync_scope::data, stop));
         }},
    };
    return all;
}

}  // namespace

TEST_CASE("an errno that the kernel answers reaches the caller unchanged",
          "[runtime][operations]") {
    for (const kind& each : kinds()) {
        for (const int number : {EIO, EBADF, EINVAL, ENOMEM, ECONNRESET, EPIPE, ENOSPC, EACCES}) {
            CAPTURE(each.name, number);
            scripted_kernel script;
            ring loop(small, script);
            fixture setup;
            script.fail(each.opcode, number);

            const auto error = run_on(loop, [&] { return each.await(loop, setup, {}); });

            CHECK(error == std::error_code(number, std::system_category()));
        }
    }
}

TEST_CASE("a request that was stopped before it began is never made", "[runtime][operations]") {
    for (const kind& each : kinds()) {
        CAPTURE(each.name);
        scripted_kernel script;
        ring loop(small, script);
        fixture setup;
        std::stop_source stop;
        stop.request_stop();

        const auto error = run_on(loop, [&] { return each.await(loop, setup, stop.get_token()); });

        CHECK(error == std::errc::operation_canceled);
        CHECK(script.submitted(each.opcode) == 0);
    }
}

TEST_CASE("in a scope that was stopped before, no request is made", "[runtime][operations]") {
    for (const kind& each : kinds()) {
        CAPTURE(each.name);
        scripted_kernel script;
        ring loop(small, script);
        fixture setup;
        auto body = [&]() -> task<std::error_code> {
            auto limit = co_await kevring::within(1h);
            limit.scope().request_stop();
            auto awaited = each.await(loop, setup, {});
            co_return co_await std::move(awaited);
        };

        CHECK(run_on(loop, body) == std::errc::operation_canceled);
        CHECK(script.submitted(each.opcode) == 0);
    }
}

// Only the requests that can wait in the kernel: the others complete before a stop is possible. A
// splice waits in an io-wq thread of the kernel, which is interrupted and fails with its own error.
TEST_CASE("a stop ends a request that waits, from this thread and from another",
          "[runtime][operations][threads]") {
    for (const kind& each : kinds()) {
        const std::string name = each.name;
        if (name != "read" && name != "readv" && name != "accept" && name != "receive" &&
            name != "poll" && name != "splice")
            continue;
        for (const bool other_thread : {false, true}) {
            CAPTURE(each.name, other_thread);
            ring loop(small);
            fixture setup;
            std::stop_source stop;
            std::jthread stopper;
            auto body = [&]() -> task<std::error_code> {
                auto act = [&]() -> task<void> {
                    co_await kevring::yield();
                    co_await kevring::yield();
                    if (other_thread)
                        stopper = std::jthread([&stop] { stop.request_stop(); });
                    else
                        stop.request_stop();
                };
                kevring::task_scope side(loop);
                side.spawn(act());
                auto awaited = each.await(loop, setup, stop.get_token());
                const auto error = co_await std::move(awaited);
                co_await side.join();
                co_return error;
            };

            CHECK(run_on(loop, body) == std::errc::operation_canceled);
        }
    }
}

TEST_CASE("a deadline around a request that waits reads timed_out", "[runtime][operations]") {
    for (const kind& each : kinds()) {
        const std::string name = each.name;
        if (name != "read" && name != "accept" && name != "receive" && name != "poll" &&
            name != "splice")
            continue;
        CAPTURE(each.name);
        ring loop(small);
        fixture setup;
        auto body = [&]() -> task<std::error_code> {
            const auto limit = co_await kevring::within(1ms);
            auto awaited = each.await(loop, setup, {});
            co_return co_await std::move(awaited);
        };

        CHECK(run_on(loop, body) == std::errc::timed_out);
    }
}

// The completion is already posted when the stop is requested. The completion wins, and no result is
// lost.
TEST_CASE("a stop after the completion changes nothing", "[runtime][operations]") {
    for (const kind& each : kinds()) {
        const std::string name = each.name;
        if (name == "connect") continue;  // fails by itself: a Unix socket has no such address
        CAPTURE(each.name);
        scripted_kernel script;
        ring loop(small, script);
        fixture setup;
        setup.sockets.send_from_peer("x");
        REQUIRE(::write(setup.pipe_in.number(), "x", 1) == 1);
        if (name == "accept") continue;  // tried with its stream
        std::stop_source stop;
        script.hold(each.opcode);
        auto body = [&]() -> task<std::error_code> {
            auto act = [&]() -> task<void> {
                while (script.held_count() == 0) co_await kevring::yield();
                stop.request_stop();
                script.release();
            };
            kevring::task_scope side(loop);
            side.spawn(act());
            auto awaited = each.await(loop, setup, stop.get_token());
            const auto error = co_await std::move(awaited);
            co_await side.join();
            co_return error;
        };

        CHECK(run_on(loop, body) == std::error_code());
    }
}

TEST_CASE("cancelling a descriptor ends what waits on it, and counts", "[runtime][cancel]") {
    ring loop;
    fixture setup;
    auto body = [&]() -> task<std::size_t> {
        kevring::task_scope side(loop);
        std::vector<std::error_code> errors(3);
        auto wait = [&](std::size_t index) -> task<void> {
            kevring::receive_operation receive(loop, setup.sockets.local(), setup.bytes);
            const auto got = co_await receive;
            errors[index] = got ? std::error_code() : got.error();
        };
        for (std::size_t i = 0; i < errors.size(); ++i) side.spawn(wait(i));
        co_await kevring::yield();
        kevring::cancel_operation cancel(loop, setup.sockets.local());
        const auto ended = co_await cancel;
        co_await side.join();
        for (const auto& error : errors) CHECK(error == std::errc::operation_canceled);
        kevring::cancel_operation again(loop, setup.sockets.local());
        const auto none = co_await again;
        CHECK(none.value() == 0);
        co_return ended.value();
    };

    CHECK(run_on(loop, body) == 3);
}

// The entry names a number, and the kernel looks the number up when the entry is submitted. A
// number that was closed may be another file by then.
TEST_CASE("a request reaches the kernel before its descriptor is closed or given away",
          "[runtime][operations][descriptor]") {
    const auto close_all = [](fixture& setup) {
        setup.sockets.close_local();
        setup.pipe_out.reset();
        setup.file = kevring::fd();
        setup.listener.reset();
    };
    const auto give_all_away = [](fixture& setup) {
        setup.sockets.close_local();
        setup.pipe_out.reset(setup.pipe_out.release());
        setup.file = kevring::fd(setup.file.release());
        setup.listener.reset(setup.listener.release());
    };
    for (const kind& each : kinds()) {
        const std::string_view name = each.name;
        if (name == "nop" || name == "open" || name == "statx") continue;  // name no descriptor
        for (const bool closes : {true, false}) {
            CAPTURE(each.name, closes);
            scripted_kernel script;
            ring loop(small, script);
            fixture setup;
            auto body = [&]() -> task<void> {
                static_cast<void>(co_await kevring::nop_operation(
                    loop));  // from here on this runs while the ring reaps
                kevring::task_scope side(loop);
                auto await = [&]() -> task<void> {
                    auto request = each.await(loop, setup, std::stop_token());
                    const std::error_code error = co_await std::move(request);
                    // A worker of the kernel looks the number up itself.
                    if (!kevring::detail::always_punted(each.opcode))
                        CHECK(error != std::errc::bad_file_descriptor);
                };
                side.spawn(await());
                CHECK(script.submitted(each.opcode) == 0);
                if (closes)
                    close_all(setup);
                else
                    give_all_away(setup);
                CHECK(script.submitted(each.opcode) == 1);
                side.request_stop();
                co_await side.join();
            };
            run_on(loop, body);
        }
    }
}

TEST_CASE("a cancel of all requests of a descriptor reaches the kernel before it is closed",
          "[runtime][operations][descriptor]") {
    scripted_kernel script;
    ring loop(small, script);
    socket_pair sockets;
    auto body = [&]() -> task<void> {
        std::array<std::byte, 8> bytes{};
        kevring::task_scope side(loop);
        auto receive = [&]() -> task<void> {
            const auto got = co_await kevring::receive_operation(loop, sockets.local(), bytes);
            CHECK(got.error() == std::errc::operation_canceled);
        };
        auto cancel = [&]() -> task<void> {
            const auto count = co_await kevring::cancel_operation(loop, sockets.local());
            CHECK(count.value() == 1);
        };
        side.spawn(receive());
        static_cast<void>(co_await kevring::nop_operation(loop));
        side.spawn(cancel());
        sockets.close_local();
        co_await side.join();
    };
    run_on(loop, body);
}

TEST_CASE("a descriptor that another ring of the thread has queued for is closed after that",
          "[runtime][operations][descriptor]") {
    scripted_kernel first_script;
    scripted_kernel second_script;
    ring first(small, first_script);
    ring second(small, second_script);
    socket_pair sockets;
    std::array<std::byte, 8> bytes{};
    kevring::task_scope first_side(first);
    auto receive = [&]() -> task<void> {
        const auto got = co_await kevring::receive_operation(first, sockets.local(), bytes);
        CHECK(!got.has_value());
    };
    first.run_once(false);
    first_side.spawn(receive());
    CHECK(first_script.submitted(IORING_OP_RECV) == 0);

    SECTION("while nothing else is queued") {}
    SECTION("while the other has entries too") {
        run_on(second,
               [&]() -> task<void> { static_cast<void>(co_await kevring::nop_operation(second)); });
    }
    sockets.close_local();

    CHECK(first_script.submitted(IORING_OP_RECV) == 1);
    first_side.request_stop();
    run_on(first, [&]() -> task<void> { co_await first_side.join(); });
}
