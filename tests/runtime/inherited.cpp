// A forked process has copies of its parent's objects: their awaits fail there, and their destructors only
// close descriptors, whatever the tasks of the parent wait for.
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/kevent/change_stream.hpp>
#include <kevring/kevent/event_queue.hpp>
#include <kevring/kevent/signal_stream.hpp>
#include <kevring/net/connect_host.hpp>
#include <kevring/net/outbox.hpp>
#include <kevring/net/resolve.hpp>
#include <kevring/net/socket.hpp>
#include <kevring/runtime/channel.hpp>
#include <kevring/runtime/condition.hpp>
#include <kevring/runtime/file.hpp>
#include <kevring/runtime/latch.hpp>
#include <kevring/runtime/mutex.hpp>
#include <kevring/runtime/once.hpp>
#include <kevring/runtime/reset_event.hpp>
#include <kevring/runtime/semaphore.hpp>
#include <kevring/runtime/stdio_stream.hpp>
#include <kevring/runtime/thread_pool.hpp>
#include <kevring/sendfile/send_queue.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

using kevring::ring;
using kevring::task;
using kevring::task_scope;
using namespace std::chrono_literals;

namespace {

constexpr int exit_good = 42;
constexpr int exit_bad = 43;

struct forked_child {
    pid_t process = -1;
    int read_end = -1;
};

forked_child start_child() {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) throw std::system_error(errno, std::system_category(), "pipe");
    const forked_child child{::fork(), ends[0]};
    if (child.process == 0) {
        ::dup2(ends[1], STDERR_FILENO);
        ::signal(SIGABRT, SIG_DFL);  // not the handler of the test framework
    }
    ::close(ends[1]);
    return child;
}

// A child destroys `object` while `use(*object)` is pending in a task of the parent.
template <class Object, class Use>
void check_destroyed_in_child(ring& loop, std::unique_ptr<Object> object, Use& use) {
    child_outcome outcome;
    auto body = [&]() -> task<void> {
        task_scope users(loop);
        users.spawn(use(*object));
        co_await kevring::yield();
        co_await kevring::yield();
        const forked_child child = start_child();
        if (child.process == 0) {
            object.reset();
            ::_exit(exit_good);
        }
        outcome = await_child(child.process, child.read_end);
        users.request_stop();
        co_await users.join();
    };
    run_on(loop, body);
    INFO(outcome.error_text);
    CHECK(outcome.exited(exit_good));
}

template <class Object, class Use>
void check_destroyed_in_child(Use use) {
    ring loop;
    check_destroyed_in_child(loop, std::make_unique<Object>(), use);
}

}  // namespace

TEST_CASE("a child destroys primitives that tasks of its parent wait for", "[runtime][fork]") {
    SECTION("semaphore") {
        ring loop;
        auto use = [](kevring::semaphore& permits) -> task<void> {
            static_cast<void>(co_await permits.acquire());
        };
        check_destroyed_in_child(loop, std::make_unique<kevring::semaphore>(0), use);
    }
    SECTION("channel") {
        ring loop;
        auto use = [](kevring::cross_loop::channel<int>& items) -> task<void> {
            static_cast<void>(co_await items.receive());
        };
        check_destroyed_in_child(loop, std::make_unique<kevring::cross_loop::channel<int>>(1), use);
    }
    SECTION("mutex") {
        check_destroyed_in_child<kevring::mutex>([](kevring::mutex& mutex) -> task<void> {
            const auto guard = co_await mutex.lock();
            static_cast<void>(co_await kevring::sleep_for(60s));
        });
    }
    SECTION("shared mutex") {
        check_destroyed_in_child<kevring::shared_mutex>(
            [](kevring::shared_mutex& mutex) -> task<void> {
                const auto guard = co_await mutex.lock_shared();
                static_cast<void>(co_await kevring::sleep_for(60s));
            });
    }
    SECTION("condition") {
        struct guarded {
            kevring::mutex mutex;
            kevring::condition changed;
        };
        check_destroyed_in_child<guarded>([](guarded& state) -> task<void> {
            auto guard = co_await state.mutex.lock();
            static_cast<void>(co_await state.changed.wait(*guard));
        });
    }
    SECTION("event") {
        check_destroyed_in_child<kevring::manual_reset_event>(
            [](kevring::manual_reset_event& event) -> task<void> {
                static_cast<void>(co_await event.wait());
            });
    }
    SECTION("latch") {
        ring loop;
        auto use = [](kevring::latch& latch) -> task<void> {
            static_cast<void>(co_await latch.wait());
        };
        check_destroyed_in_child(loop, std::make_unique<kevring::latch>(1), use);
    }
    SECTION("barrier") {
        ring loop;
        auto use = [](kevring::barrier& barrier) -> task<void> {
            static_cast<void>(co_await barrier.arrive_and_wait());
        };
        check_destroyed_in_child(loop, std::make_unique<kevring::barrier>(2), use);
    }
    SECTION("once") {
        check_destroyed_in_child<kevring::once>([](kevring::once& once) -> task<void> {
            auto wait = []() -> task<void> { static_cast<void>(co_await kevring::sleep_for(60s)); };
            static_cast<void>(co_await once.call(wait));
        });
    }
    SECTION("queue of a socket's transfers") {
        ring loop;
        auto use = [&](kevring::send_queue& queue) -> task<void> {
            const auto acquired = co_await queue.acquire(loop);
            static_cast<void>(co_await kevring::sleep_for(60s));
            if (acquired) queue.release({});
        };
        check_destroyed_in_child(loop, std::make_unique<kevring::send_queue>(), use);
    }
}

TEST_CASE("a child destroys scopes, sockets and streams that tasks of its parent use",
          "[runtime][fork]") {
    SECTION("task scope") {
        ring loop;
        auto use = [](task_scope& tasks) -> task<void> {
            auto sleep = []() -> task<void> {
                static_cast<void>(co_await kevring::sleep_for(60s));
            };
            tasks.spawn(sleep());
            static_cast<void>(co_await kevring::sleep_for(60s));
            tasks.request_stop();
            co_await tasks.join();
        };
        check_destroyed_in_child(loop, std::make_unique<task_scope>(loop), use);
    }
    SECTION("socket") {
        ring loop;
        socket_pair sockets;
        auto use = [](kevring::socket& connected) -> task<void> {
            std::array<std::byte, 4> bytes{};
            static_cast<void>(co_await connected.receive(bytes));
        };
        check_destroyed_in_child(
            loop,
            std::make_unique<kevring::socket>(loop, kevring::fd(::dup(sockets.local().number()))),
            use);
    }
    SECTION("outbox") {
        ring loop;
        socket_pair sockets;
        kevring::socket connected(loop, kevring::fd(::dup(sockets.local().number())));
        auto use = [](kevring::outbox& box) -> task<void> {
            static_cast<void>(co_await box.run());
        };
        check_destroyed_in_child(loop, std::make_unique<kevring::outbox>(connected), use);
    }
    SECTION("stream of changes") {
        ring loop;
        auto use = [](kevring::change_stream& changes) -> task<void> {
            static_cast<void>(co_await changes.next());
        };
        auto changes = std::make_unique<kevring::change_stream>(
            kevring::value_or_throw(kevring::change_stream::open(), "inotify"));
        check_destroyed_in_child(loop, std::move(changes), use);
    }
}

namespace {

// The error of `awaited` in a child that is forked here.
template <class Make>
void check_await_in_child(ring& loop, Make& make) {
    const pid_t parent = ::getpid();
    child_outcome outcome;
    auto body = [&]() -> task<void> {
        const forked_child child = start_child();
        if (child.process == 0) {
            auto awaited = make();
            const auto ended = co_await std::move(awaited);
            const bool is_refused = !ended && ended.error() == std::errc::operation_not_permitted;
            ::_exit(is_refused ? exit_good : exit_bad);
        }
        outcome = await_child(child.process, child.read_end);
    };
    try {
        run_on(loop, body);
    } catch (...) {
        // A child whose coroutine was suspended leaves the loop like this.
        if (::getpid() != parent) ::_exit(exit_bad);
        throw;
    }
    INFO(outcome.error_text << "wait status " << outcome.wait_status);
    CHECK(outcome.exited(exit_good));
}

}  // namespace

TEST_CASE("an await that needs no request fails in a child as well", "[runtime][fork]") {
    ring loop;
    SECTION("mutex that is free") {
        kevring::mutex mutex;
        auto make = [&] { return mutex.lock(); };
        check_await_in_child(loop, make);
    }
    SECTION("semaphore without permits") {
        kevring::cross_loop::semaphore permits(0);
        auto make = [&] { return permits.acquire(); };
        check_await_in_child(loop, make);
    }
    SECTION("channel without items") {
        kevring::channel<int> items(1);
        auto make = [&] { return items.receive(); };
        check_await_in_child(loop, make);
    }
    SECTION("call on a thread of the child's own pool") {
        auto make = [] { return kevring::blocking([] { return 1; }); };
        check_await_in_child(loop, make);
    }
    SECTION("names of attributes, which a thread reads") {
        const kevring::file file(loop, kevring::fd(::memfd_create("kevring", MFD_CLOEXEC)));
        auto make = [&] { return file.attribute_names(); };
        check_await_in_child(loop, make);
    }
    SECTION("signal") {
        auto signals = kevring::value_or_throw(kevring::signal_stream::open({SIGUSR2}), "signalfd");
        auto make = [&] { return signals.next(); };
        check_await_in_child(loop, make);
    }
    SECTION("change of a directory") {
        auto changes = kevring::value_or_throw(kevring::change_stream::open(), "inotify");
        auto make = [&] { return changes.next(); };
        check_await_in_child(loop, make);
    }
    SECTION("bytes of a pipe that the process shares") {
        std::array<int, 2> ends{};
        REQUIRE(::pipe(ends.data()) == 0);
        const kevring::fd reading(ends[0]);
        const kevring::fd writing(ends[1]);
        kevring::input_stream input(loop, reading);
        std::array<std::byte, 4> bytes{};
        auto make = [&] { return input.read(bytes); };
        check_await_in_child(loop, make);
    }
    SECTION("host name") {
        auto make = [] { return kevring::resolve("localhost", "http"); };
        check_await_in_child(loop, make);
    }
    SECTION("connection to an address in text form") {
        auto make = [&] { return kevring::connect(loop, "127.0.0.1:1"); };
        check_await_in_child(loop, make);
    }
}

TEST_CASE("a child that a job of blocking() forks ends with its function", "[runtime][fork]") {
    ring loop;
    kevring::thread_pool pool({.thread_count_max = 2, .queue_count_max = 8});
    auto body = [&]() -> task<void> {
        auto fork_here = [] {
            const pid_t child = ::fork();
            // Before the handlers of the parent, as that of a leak checker.
            if (child == 0) std::atexit(+[] { ::_exit(exit_good); });
            return child;
        };
        const auto forked = co_await kevring::blocking(pool, fork_here);
        REQUIRE(forked.value() > 0);
        auto wait_here = [child = *forked] {
            int status = 0;
            const auto end = std::chrono::steady_clock::now() + child_deadline;
            while (::waitpid(child, &status, WNOHANG) == 0) {
                if (std::chrono::steady_clock::now() > end) {
                    ::kill(child, SIGKILL);
                    ::waitpid(child, &status, 0);
                    return -1;
                }
                std::this_thread::yield();
            }
            return status;
        };
        const auto status = co_await kevring::blocking(pool, wait_here);
        REQUIRE(status.has_value());
        CHECK(WIFEXITED(*status));
        CHECK(WEXITSTATUS(*status) == exit_good);
    };
    run_on(loop, body);
}
