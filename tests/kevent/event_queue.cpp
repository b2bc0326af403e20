// event_queue.cpp: the queue on a loop: typed requests, events as values, batches, and several
// loops on one queue.
#include "tests/kevent/kevent_fixture.hpp"
#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/kevent/event_queue.hpp>
#include <kevring/kevent/event_views.hpp>

#include <range/v3/range/conversion.hpp>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <limits>
#include <new>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

using kevring::event;
using kevring::event_queue;
using kevring::event_type;
using kevring::repeat;
using kevring::ring;
using kevring::task;
using kevring::timer;
using kevring::user_event;
using namespace std::chrono_literals;

namespace {

enum class job : std::uint8_t { read, write, tick, other };

task<void> expect_nothing(event_queue& queue) {
    const auto got = co_await queue.wait(1, 16, std::chrono::steady_clock::now());
    REQUIRE(got.has_value());
    CHECK(got->empty());
}

}  // namespace

TEST_CASE("requests of every type give events of it", "[kevent][event_queue]") {
    ring loop;
    auto ends = kevent_test::connected_pair::sockets();
    auto body = [&]() -> task<void> {
        event_queue queue;
        SECTION("a timer, as often as it is due") {
            REQUIRE(queue.add(timer(1ms), job::tick));
            for (int i = 0; i < 3; ++i) {
                const auto got = co_await queue.next();
                REQUIRE(got.has_value());
                CHECK(got->type() == event_type::timer);
                CHECK(got->expirations() >= 1);
                CHECK(got->user_data<job>() == job::tick);
            }
        }
        SECTION("timers of one period, each by itself") {
            const auto first = queue.add(timer(1ms), 1, repeat::once);
            const auto second = queue.add(timer(1ms), 2, repeat::once);
            REQUIRE((first.has_value() && second.has_value()));
            CHECK_FALSE(first.value() == second.value());
            const auto got = co_await queue.wait(2, 16);
            REQUIRE(got.value().size() == 2);
            CHECK((*got)[0].user_data<int>() + (*got)[1].user_data<int>() == 3);
            CHECK(queue.registration_count() == 0);
        }
        SECTION("a descriptor, readable and writable apart") {
            const kevring::fd_ref local(ends.local());
            const auto reading = queue.add(kevring::readable(local), &ends);
            const auto writing = queue.add(kevring::writable(local), job::write);
            REQUIRE((reading.has_value() && writing.has_value()));
            const auto room = co_await queue.next();
            CHECK(room.value().key() == *writing);
            CHECK(room->ready_bits() == POLLOUT);
            CHECK(queue.remove(*writing));
            CHECK_FALSE(queue.remove(*writing));
            co_await expect_nothing(queue);

            ends.send_from_peer(3);
            const auto bytes = co_await queue.next();
            CHECK(bytes.value().user_data<kevent_test::connected_pair*>() == &ends);
            CHECK(bytes->ready_bits() == POLLIN);
            co_await expect_nothing(queue);  // an edge

            REQUIRE(queue.modify(*reading, POLLOUT));
            const auto changed = co_await queue.next();
            CHECK(changed.value().ready_bits() == POLLOUT);
        }
        SECTION("a socket, by what it is ready for") {
            using kevring::socket_interest;
            const kevring::fd_ref local(ends.local());
            const auto added = queue.add(
                kevring::socket_events(local, socket_interest::receive | socket_interest::send),
                &ends);
            REQUIRE(added.has_value());
            const auto room = co_await queue.next();
            CHECK(room.value().key() == *added);
            CHECK(room->type() == event_type::socket);
            CHECK(room->is_ready_for(socket_interest::send));
            CHECK_FALSE(room->is_ready_for(socket_interest::receive));
            CHECK(room->user_data<kevent_test::connected_pair*>() == &ends);

            REQUIRE(queue.modify(*added, KEVENT_SOCKET_RECV));
            ends.send_from_peer();
            const auto bytes = co_await queue.next();
            CHECK(bytes.value().is_ready_for(socket_interest::receive));
            CHECK(bytes->ready_bits() == KEVENT_SOCKET_RECV);
            CHECK(queue.remove(*added));
        }
        SECTION("a pipe, and the end of its writers") {
            auto pipe = kevent_test::connected_pair::pipe();
            const kevring::pipe_events request(kevring::fd_ref(pipe.local()),
                                               kevring::socket_interest::receive);
            REQUIRE(queue.add(request));
            pipe.send_from_peer();
            const auto bytes = co_await queue.next();
            CHECK(bytes.value().is_ready_for(kevring::socket_interest::receive));
            pipe.drain_local();
            pipe.close_peer();
            const auto end = co_await queue.next();
            CHECK(end.value().failed());
            CHECK(end->error() == std::errc::broken_pipe);
        }
        SECTION("a signal") {
            REQUIRE(queue.add(kevring::signal(SIGUSR1), job::other));
            ::sigval value{};
            value.sival_int = -5;
            REQUIRE(::sigqueue(::getpid(), SIGUSR1, value) == 0);
            const auto got = co_await queue.next();
            REQUIRE(got.has_value());
            CHECK(got->type() == event_type::signal);
            CHECK(got->number() == SIGUSR1);
            CHECK(got->sender() == static_cast<std::uint32_t>(::getpid()));
            CHECK(got->value() == -5);
            CHECK(queue.add(kevring::signal(SIGUSR1)).error() == std::errc::file_exists);
        }
        SECTION("a directory") {
            std::string name = (std::filesystem::temp_directory_path() / "kevring-XXXXXX").string();
            REQUIRE(::mkdtemp(name.data()) != nullptr);
            const kevring::inode request(name, kevring::created | kevring::removed);
            REQUIRE(queue.add(request, job::other));
            std::ofstream(name + "/one") << "bytes";
            const auto made = co_await queue.next();
            CHECK(made.value().ready_bits() == static_cast<std::uint32_t>(kevring::created));
            std::filesystem::remove(name + "/one");
            const auto gone = co_await queue.next();
            CHECK(gone.value().ready_bits() == static_cast<std::uint32_t>(kevring::removed));
            std::filesystem::remove(name);
            const auto end = co_await queue.next();
            CHECK(end.value().failed());
            CHECK(end->error() == std::errc::no_such_file_or_directory);
        }
        SECTION("a directory, with names") {
            std::string name = (std::filesystem::temp_directory_path() / "kevring-XXXXXX").string();
            REQUIRE(::mkdtemp(name.data()) != nullptr);
            const auto added =
                queue.add(kevring::inode(name, kevring::created | kevring::change_kind::moved_to,
                                         kevring::inode_names::kept));
            REQUIRE(added);
            std::ofstream(name + "/one") << "bytes";
            std::filesystem::rename(name + "/one", name + "/two");
            const auto made = co_await queue.next();
            REQUIRE(made.has_value());
            const auto changes = queue.take_changes(made->key());
            REQUIRE(changes.value().size() == 2);
            CHECK((*changes)[0].kinds == kevring::created);
            CHECK((*changes)[0].name == "one");
            CHECK((*changes)[1].kinds == kevring::change_kind::moved_to);
            CHECK((*changes)[1].name == "two");
            CHECK(queue.remove(*added));
            CHECK(queue.take_changes(*added).error() == std::errc::no_such_file_or_directory);
            std::filesystem::remove_all(name);
        }
        SECTION("a process") {
            const pid_t child = ::fork();
            if (child == 0) ::_exit(3);
            REQUIRE(child > 0);
            REQUIRE(queue.add(kevring::process(child)));
            const auto got = co_await queue.next();
            REQUIRE(got.has_value());
            CHECK(got->number() == static_cast<std::uint64_t>(child));
            CHECK(got->exit_kind() == CLD_EXITED);
            CHECK(got->exit_code() == 3);
            CHECK(::waitpid(child, nullptr, 0) == child);
        }
        SECTION("a user event, when it is fired") {
            REQUIRE(queue.add(user_event(42), job::read));
            co_await expect_nothing(queue);
            CHECK(queue.notify(user_event(42)));
            CHECK(queue.notify(user_event(42)));  // one event for both
            CHECK_FALSE(queue.notify(user_event(43)));
            const auto got = co_await queue.next();
            CHECK(got.value().number() == 42);
            CHECK(got->notification_count() == 2);
            CHECK(got->user_data<job>() == job::read);
            co_await expect_nothing(queue);
        }
    };
    run_on(loop, body);
}

TEST_CASE("poll() returns the ready events, and does not wait for more", "[kevent][event_queue]") {
    event_queue queue;
    CHECK(queue.poll(4).empty());
    auto pipe = kevent_test::connected_pair::pipe();
    REQUIRE(queue.add(kevring::readable(kevring::fd_ref(pipe.local())), job::read));
    for (std::uint64_t number = 0; number < 3; ++number) REQUIRE(queue.add(user_event(number)));
    CHECK(queue.poll(4).empty());

    pipe.send_from_peer();
    const auto one = queue.poll(4);
    REQUIRE(one.size() == 1);
    CHECK(one[0].user_data<job>() == job::read);

    for (std::uint64_t number = 0; number < 3; ++number) CHECK(queue.notify(user_event(number)));
    CHECK(queue.poll(2).size() == 2);
    CHECK(queue.poll(2).size() == 1);
    CHECK(queue.poll(2).empty());
}

TEST_CASE("a call for as many events as a number can be gives those that are ready",
          "[kevent][event_queue]") {
    constexpr unsigned all = std::numeric_limits<unsigned>::max();
    ring loop;
    auto body = [&]() -> task<void> {
        event_queue queue;
        REQUIRE(queue.add(user_event(1)));
        REQUIRE(queue.notify(user_event(1)));
        const auto one = co_await queue.wait(1, all);
        REQUIRE(one.has_value());
        CHECK(one->size() == 1);
        REQUIRE(queue.notify(user_event(1)));
        CHECK(queue.poll(all).size() == 1);
        REQUIRE(queue.notify(user_event(1)));
        const auto due = std::chrono::steady_clock::now() + 1ms;
        const auto late = co_await queue.wait(all, all, due);
        REQUIRE(late.has_value());
        CHECK(late->size() == 1);
    };
    run_on(loop, body);
}

TEST_CASE("a queue that was moved from has no descriptor", "[kevent][event_queue]") {
    ring loop;
    auto body = [&]() -> task<void> {
        event_queue source(loop);
        event_queue target(std::move(source));
        const auto next = co_await source.next();
        CHECK(next.error() == std::errc::bad_file_descriptor);
        const auto batch = co_await source.wait(1, 2);
        CHECK(batch.error() == std::errc::bad_file_descriptor);
        CHECK(source.poll(1).empty());
        CHECK(source.add(timer(1s)).error() == std::errc::bad_file_descriptor);
        CHECK(source.add(kevring::readable(kevring::fd_ref(0))).error() ==
              std::errc::bad_file_descriptor);
        CHECK(source.registration_count() == 0);
        CHECK_FALSE(source.notify(user_event(1)));
        CHECK_THROWS_AS(source.share(), std::system_error);
        CHECK(target.add(timer(1s)).has_value());
    };
    run_on(loop, body);
}

TEST_CASE("poll() works while a task waits at the same queue", "[kevent][event_queue]") {
    ring loop;
    event_queue queue;
    REQUIRE(queue.add(user_event(7), job::read));
    bool got_it = false;
    auto waits = [&]() -> task<void> {
        const auto got = co_await queue.wait(1, 1);
        REQUIRE(got.has_value());
        REQUIRE(got->size() == 1);
        got_it =
            got->front().user_data<job>() == job::read && got->front().notification_count() == 1;
    };
    auto body = [&]() -> task<void> {
        kevring::task_scope scope(loop);
        scope.spawn(waits());
        co_await kevring::yield();
        CHECK(queue.poll(1000).empty());  // did not fit into the result of the wait
        CHECK(queue.notify(user_event(7)));
        co_await scope.join();
    };
    run_on(loop, body);
    CHECK(got_it);
}

TEST_CASE("one queue is awaited on one loop after another", "[kevent][event_queue]") {
    event_queue queue;
    REQUIRE(queue.add(user_event(1), 1));
    const auto take_one = [&]() -> kevring::task<int> {
        queue.notify(user_event(1));
        const auto first = co_await queue.next();
        if (!first) co_return -first.error().value();
        kevring::task_scope scope(*ring::current());
        const auto notify_later = [&]() -> task<void> {
            co_await kevring::yield();
            queue.notify(user_event(1));
        };
        scope.spawn(notify_later());
        const auto second = co_await queue.next();  // the poll is in flight
        co_await scope.join();
        co_return second ? second->user_data<int>() : -second.error().value();
    };
    SECTION("of loops that end") {
        for (int round = 0; round < 3; ++round) CHECK(kevring::run(take_one()) == 1);
    }
    SECTION("of two loops of one thread, in turn") {
        ring first;
        ring second;
        for (int round = 0; round < 3; ++round) {
            CHECK(run_on(first, take_one) == 1);
            CHECK(run_on(second, take_one) == 1);
        }
    }
    SECTION("of threads that end") {
        for (int round = 0; round < 3; ++round) {
            int result = 0;
            std::thread other([&] { result = kevring::run(take_one()); });
            other.join();
            CHECK(result == 1);
        }
    }
}

TEST_CASE("a stream of signals or changes is awaited on one loop after another",
          "[kevent][event_queue]") {
    auto signals = kevring::signal_stream::open({SIGUSR2});
    REQUIRE(signals);
    const auto take_signal = [&]() -> task<int> {
        kevring::task_scope scope(*ring::current());
        const auto send_later = [&]() -> task<void> {
            co_await kevring::yield();
            ::pthread_kill(::pthread_self(), SIGUSR2);
        };
        scope.spawn(send_later());
        const auto received = co_await signals->next();
        co_await scope.join();
        co_return received ? received->number : -received.error().value();
    };
    for (int round = 0; round < 3; ++round) CHECK(kevring::run(take_signal()) == SIGUSR2);
    ring first;
    ring second;
    for (int round = 0; round < 2; ++round) {
        CHECK(run_on(first, take_signal) == SIGUSR2);
        CHECK(run_on(second, take_signal) == SIGUSR2);
    }
}

TEST_CASE("a queue object is busy while tasks of another loop wait for it",
          "[kevent][event_queue]") {
    event_queue queue;
    REQUIRE(queue.add(user_event(1), 1));
    std::atomic<bool> waits{false};
    int received = 0;
    std::thread other([&] {
        const auto body = [&]() -> task<void> {
            kevring::task_scope scope(*ring::current());
            const auto wait = [&]() -> task<void> {
                const auto got = co_await queue.next();
                received = got ? got->user_data<int>() : -got.error().value();
            };
            scope.spawn(wait());
            co_await kevring::yield();
            waits = true;
            co_await scope.join();
        };
        kevring::run(body());
    });
    while (!waits) std::this_thread::yield();

    const auto refused = [&]() -> task<std::error_code> {
        const auto got = co_await queue.next();
        co_return got ? std::error_code() : got.error();
    };
    CHECK(kevring::run(refused()) == std::errc::device_or_resource_busy);
    auto shared = queue.share();
    CHECK(queue.notify(user_event(1)));
    other.join();
    CHECK(received == 1);
}

TEST_CASE("tasks that wait at one queue each get one of its events", "[kevent][event_queue]") {
    constexpr int task_count = 5;
    ring loop;
    event_queue queue;
    for (int i = 0; i < task_count; ++i)
        REQUIRE(queue.add(user_event(static_cast<unsigned>(i)), i));
    std::multiset<int> received;
    const auto wait = [&]() -> task<void> {
        const auto got = co_await queue.next();
        received.insert(got ? got->user_data<int>() : -got.error().value());
    };
    const auto body = [&]() -> task<void> {
        kevring::task_scope scope(loop);
        for (int i = 0; i < task_count; ++i) scope.spawn(wait());
        const auto stopped = co_await kevring::with_timeout(queue.next(), 1ms);
        CHECK(stopped.error() == std::errc::timed_out);
        for (int i = 0; i < task_count; ++i) {
            CHECK(queue.notify(user_event(static_cast<unsigned>(i))));
            if (i % 2 == 0) co_await kevring::yield();
        }
        co_await scope.join();
    };
    run_on(loop, body);
    CHECK(received == std::multiset<int>{0, 1, 2, 3, 4});
}

TEST_CASE("requests that cannot be watched are refused", "[kevent][event_queue]") {
    event_queue queue;
    CHECK(queue.add(timer(0s)).error() == std::errc::invalid_argument);
    CHECK(queue.add(timer(-1s)).error() == std::errc::invalid_argument);
    CHECK(queue.add(kevring::readable(kevring::fd_ref(-1))).error() ==
          std::errc::bad_file_descriptor);
    const auto pipe = kevent_test::connected_pair::pipe();
    const kevring::fd_ref end(pipe.local());
    CHECK(queue.add(kevring::socket_events(end, kevring::socket_interest::receive)).error() ==
          std::errc::not_a_socket);
    CHECK(queue.add(kevring::pipe_events(end, kevring::socket_interest::accept)).error() ==
          std::errc::invalid_argument);
    CHECK(queue.add(kevring::signal(SIGKILL)).error() == std::errc::invalid_argument);
    CHECK(queue.add(kevring::inode("/nowhere")).error() == std::errc::no_such_file_or_directory);
    CHECK(queue.add(kevring::inode("/", kevring::change_kind::written)).error() ==
          std::errc::invalid_argument);
    REQUIRE(queue.add(user_event(1)));
    CHECK(queue.add(user_event(1)).error() == std::errc::file_exists);
    CHECK(queue.registration_count() == 1);
}

TEST_CASE("a request that is changed is answered as often as it was to be",
          "[kevent][event_queue]") {
    ring loop;
    auto body = []() -> task<void> {
        const auto ends = kevent_test::connected_pair::sockets();
        event_queue queue;
        const kevring::fd_ref local(ends.local());
        const auto once = queue.add(kevring::readable(local), 1, repeat::once);
        const auto always = queue.add(kevring::readable(local), 2);
        REQUIRE((once.has_value() && always.has_value()));
        REQUIRE(queue.modify(*once, POLLIN | POLLRDHUP));
        REQUIRE(queue.modify(*always, POLLIN | POLLRDHUP));

        ends.send_from_peer();
        const auto both = co_await queue.wait(2, 16);
        CHECK(both.value().size() == 2);
        CHECK(queue.registration_count() == 1);
        CHECK(queue.modify(*once, POLLIN).error() == std::errc::no_such_file_or_directory);
        ends.send_from_peer();
        const auto again = co_await queue.wait(1, 16);
        REQUIRE(again.value().size() == 1);
        CHECK((*again)[0].user_data<int>() == 2);
    };
    run_on(loop, body);
}

TEST_CASE("a change of a directory is reported as lost when memory runs out",
          "[kevent][event_queue]") {
    if (!allocations_are_counted()) {
        WARN("not tried: a sanitizer brings its own operator new");
        return;
    }
    std::string name = "/tmp/kevring-lost-XXXXXX";
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    bool failed = true;
    for (std::uint64_t good_ones = 0; failed; ++good_ones) {
        event_queue queue;
        const auto added = queue.add(
            kevring::inode(name, kevring::created | kevring::removed, kevring::inode_names::kept));
        REQUIRE(added);
        std::ofstream(name + "/page").put('x');
        std::filesystem::remove(name + "/page");
        {
            const failing_allocation one(good_ones);
            try {
                static_cast<void>(queue.poll(16));
            } catch (const std::bad_alloc&) {}
            failed = one.has_failed();
        }
        INFO("after " << good_ones << " allocations");
        static_cast<void>(queue.poll(16));  // the events that were not read then
        const auto changes = queue.take_changes(*added);
        REQUIRE(changes);
        REQUIRE_FALSE(changes->empty());
        const bool is_reported = changes->back().kinds == kevring::change_kind::lost;
        const bool is_all = changes->size() == 2;
        CHECK((is_reported || is_all));
    }
    ::rmdir(name.c_str());
}

TEST_CASE("a wait returns the ready events at its deadline, and a stop loses none",
          "[kevent][event_queue]") {
    ring loop;
    auto body = []() -> task<void> {
        event_queue queue;
        for (unsigned i = 0; i < 5; ++i) REQUIRE(queue.add(user_event(i), i));
        queue.notify(user_event(0));
        queue.notify(user_event(1));

        const auto stopped = co_await kevring::with_timeout(queue.wait(3, 8), 1ms);
        CHECK(stopped.error() == std::errc::timed_out);

        const auto few = co_await queue.wait(3, 8, std::chrono::steady_clock::now() + 1ms);
        REQUIRE(few.has_value());
        CHECK(few->size() == 2);

        for (unsigned i = 0; i < 5; ++i) queue.notify(user_event(i));
        const auto some = co_await queue.wait(1, 3);
        REQUIRE(some.value().size() == 3);
        CHECK((*some)[0].user_data<unsigned>() == 0);
        CHECK((*some)[2].user_data<unsigned>() == 2);
        const auto rest = co_await queue.wait(2, 3);
        CHECK(rest.value().size() == 2);
    };
    run_on(loop, body);
}

TEST_CASE("a wait for several ends when the last of them is fired by another thread",
          "[kevent][event_queue]") {
    ring loop;
    auto body = []() -> task<void> {
        event_queue queue;
        constexpr unsigned count = 4;
        for (unsigned i = 0; i < count; ++i) REQUIRE(queue.add(user_event(i)));
        for (int round = 0; round < 200; ++round) {
            std::thread firing([&] {
                for (unsigned i = 0; i < count; ++i) queue.notify(user_event(i));
            });
            const auto got = co_await queue.wait(count, count);
            firing.join();
            REQUIRE(got.has_value());
            CHECK(got->size() == count);
        }
    };
    run_on(loop, body);
}

TEST_CASE("each event goes to one of the loops that share a queue", "[kevent][event_queue]") {
    constexpr std::uint64_t count = 2000;
    event_queue queue;
    for (std::uint64_t i = 0; i < count; ++i) REQUIRE(queue.add(user_event(i), i, repeat::once));
    std::atomic<std::uint64_t> taken_in_all{0};
    std::vector<std::uint64_t> taken[2];
    const auto work = [&](unsigned index) {
        ring loop;
        auto body = [&]() -> task<void> {
            event_queue mine = queue.share();
            while (taken_in_all < count) {
                // Ends by its deadline after the other loop has taken the last event.
                const auto got = co_await mine.wait(1, 8, std::chrono::steady_clock::now() + 5ms);
                if (!got) co_return;
                for (const event& one : *got)
                    taken[index].push_back(one.user_data<std::uint64_t>());
                taken_in_all += got->size();
            }
        };
        run_on(loop, body);
    };
    std::thread first(work, 0u);
    std::thread second(work, 1u);
    for (std::uint64_t i = 0; i < count; ++i) queue.notify(user_event(i));
    first.join();
    second.join();

    std::set<std::uint64_t> all(taken[0].begin(), taken[0].end());
    all.insert(taken[1].begin(), taken[1].end());
    CHECK(taken[0].size() + taken[1].size() == count);
    CHECK(all.size() == count);
}

TEST_CASE("a batch is a range that views look through", "[kevent][event_queue][views]") {
    const auto made = [](std::uint32_t type, std::uint32_t bits, std::uint32_t ret_flags) {
        ukevent record{};
        record.type = type;
        record.ret_data[0] = bits;
        record.ret_flags = ret_flags;
        return event(record);
    };
    constexpr std::uint32_t broken = KEVENT_RET_DONE | KEVENT_RET_BROKEN;
    const std::vector<event> batch{made(KEVENT_POLL, POLLIN, KEVENT_RET_DONE),
                                   made(KEVENT_POLL, POLLIN | POLLOUT, KEVENT_RET_DONE),
                                   made(KEVENT_POLL, POLLIN, broken),
                                   made(KEVENT_TIMER, POLLIN, KEVENT_RET_DONE)};
    const auto count = [](auto&& range) { return ranges::to<std::vector<event>>(range).size(); };

    CHECK(count(batch | kevring::by_type(event_type::timer)) == 1);
    CHECK(count(batch | kevring::ready_bits(POLLIN)) == 2);
    CHECK(count(batch | kevring::ready_bits(POLLOUT)) == 1);
    CHECK(count(batch | kevring::failed) == 1);
    CHECK(count(batch | kevring::succeeded | kevring::by_type(event_type::poll)) == 2);
}
