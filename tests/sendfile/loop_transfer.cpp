// loop_transfer.cpp: transfers of a file that are registrations of a queue, on the queue's own loop.
#include "tests/sendfile/transfer_test.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/kevent/event_queue.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>

using kevring::event;
using kevring::event_key;
using kevring::event_queue;
using kevring::file_transfer;
using kevring::ring;
using kevring::task;
using kevring::testing::difference;
using kevring::testing::more_than_a_socket_holds;
using kevring::testing::pattern;
using kevring::testing::receive_bytes;
using kevring::testing::roomy;
using kevring::testing::stream_pair;
using kevring::testing::test_file;

namespace {

// The threads that run the transfers of aio_sendfile(). Worker threads of io_uring are listed as well, and come and
// go; a test of aio_sendfile() that ran before in this process has left one of ours.
std::size_t transfer_thread_count() {
    std::size_t count = 0;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        std::ifstream file(task.path() / "comm");
        std::string name;
        if (std::getline(file, name) && name == "kevring-aio") ++count;
    }
    return count;
}

}  // namespace

TEST_CASE(
    "a file is sent on the loop of its queue, without another thread, and its end is an event",
    "[sendfile][event_queue][own_loop]") {
    const std::size_t threads_before = transfer_thread_count();
    const std::string bytes = pattern(1'000'000);
    const test_file file(bytes);
    ring loop;
    event_queue queue(loop);
    stream_pair ends = GENERATE(true, false) ? stream_pair::tcp() : stream_pair::unix_sockets();
    std::string received;
    run_on(loop, [&]() -> task<void> {
        const auto key = queue.add(file_transfer(ends.local, file.native(), 3), 42);
        REQUIRE(key);
        ends.local.reset();  // the transfer has duplicates
        kevring::task_scope side(loop);
        const auto receive = [&]() -> task<void> {
            received = co_await receive_bytes(loop, ends.peer, bytes.size());
        };
        side.spawn(receive());

        const auto end = co_await queue.next();

        REQUIRE(end);
        CHECK(end->key() == *key);
        CHECK(end->type() == kevring::event_type::aio);
        CHECK(end->user_data<int>() == 42);
        CHECK_FALSE(end->failed());
        CHECK(end->bytes_sent() == bytes.size() - 3);
        CHECK(transfer_thread_count() == threads_before);
        co_await side.join();
    });
    CHECK(difference(received, bytes.substr(3)) == "");
    CHECK(queue.registration_count() == 0);
}

TEST_CASE("transfers of one loop to one socket run in the order of add()",
          "[sendfile][event_queue]") {
    const std::string first_bytes = pattern(200'000, 1);
    const std::string second_bytes = pattern(100, 2);
    const test_file first(first_bytes);
    const test_file second(second_bytes);
    ring loop;
    event_queue queue(loop);
    stream_pair ends = stream_pair::tcp();
    std::string received;
    run_on(loop, [&]() -> task<void> {
        const auto first_key = queue.add(file_transfer(ends.local, first.native()));
        const auto second_key = queue.add(file_transfer(ends.local, second.native(), 0, 50));
        ends.local.reset();
        received = co_await receive_bytes(loop, ends.peer, 200'051);
        const auto one = co_await queue.next();
        const auto other = co_await queue.next();

        REQUIRE((one && other));
        CHECK(one->key() == *first_key);
        CHECK(other->key() == *second_key);
        CHECK(other->bytes_sent() == 50);
    });
    CHECK(difference(received, first_bytes + second_bytes.substr(0, 50)) == "");
}

TEST_CASE(
    "a transfer that fails is an event with its error, and remove() ends one without an event",
    "[sendfile][event_queue]") {
    const test_file file(pattern(more_than_a_socket_holds));
    ring loop;
    event_queue queue(loop);
    stream_pair ends = stream_pair::tcp();
    const auto start = [&]() -> task<event_key> {
        const auto key = queue.add(file_transfer(ends.local, file.native()));
        REQUIRE(key);
        ends.local.reset();
        const std::string some = co_await receive_bytes(loop, ends.peer, 1000);
        CHECK(some.size() == 1000);
        co_return *key;
    };
    SECTION("the peer resets the connection") {
        run_on(loop, [&]() -> task<void> {
            const event_key key = co_await start();
            ends.reset_far();
            const auto end = co_await queue.next();
            REQUIRE(end);
            CHECK(end->key() == key);
            CHECK(end->failed());
            CHECK((end->error() == std::errc::connection_reset ||
                   end->error() == std::errc::broken_pipe));
            CHECK(end->bytes_sent() >= 1000);
        });
    }
    SECTION("remove()") {
        run_on(loop, [&]() -> task<void> {
            const event_key key = co_await start();
            CHECK(queue.remove(key));
            // The end of the connection: the transfer has released its duplicate.
            const std::string rest =
                co_await receive_bytes(loop, ends.peer, more_than_a_socket_holds);
            CHECK(rest.size() < more_than_a_socket_holds - 1000);
        });
        CHECK(queue.poll(1).empty());
        CHECK(queue.registration_count() == 0);
    }
}

TEST_CASE("a transfer needs a socket, a file and a loop", "[sendfile][event_queue]") {
    const test_file file("bytes");
    const stream_pair ends = stream_pair::tcp();
    ring loop;
    event_queue queue(loop);
    const auto on_no_loop = queue.add(file_transfer(ends.local, file.native()));
    CHECK(on_no_loop.error() == std::errc::operation_not_permitted);
    run_on(loop, [&]() -> task<void> {
        const auto no_socket = queue.add(file_transfer(file.native(), file.native()));
        CHECK(no_socket.error() == std::errc::not_a_socket);
        const auto no_file = queue.add(file_transfer(ends.local, kevring::fd_ref(-1)));
        CHECK(no_file.error() == std::errc::bad_file_descriptor);
        co_return;
    });
    CHECK(queue.registration_count() == 0);
}
