// loop_port.cpp: the queue as requests of a loop's ring: system calls, threads, loops that end,
// full completion queues.
#include "tests/kevent/kevent_fixture.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/kevent/event_queue.hpp>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

using kevring::event;
using kevring::event_queue;
using kevring::fd;
using kevring::fd_ref;
using kevring::ring;
using kevring::task;
using kevring::timer;
using kevring::user_event;
using namespace std::chrono_literals;

namespace {

// From now on each of `calls` ends the process by SIGSYS.
bool forbid(std::initializer_list<long> calls) {
    std::vector<sock_filter> program;
    program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
    for (const long call : calls) {
        program.push_back(
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 1));
        program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
    }
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

constexpr auto epoll_calls = {
    static_cast<long>(SYS_epoll_create1), static_cast<long>(SYS_epoll_ctl),
    static_cast<long>(SYS_epoll_pwait),   static_cast<long>(SYS_epoll_pwait2),
#if defined(SYS_epoll_wait)
    static_cast<long>(SYS_epoll_create),  static_cast<long>(SYS_epoll_wait),
#endif
};

fd counter() { return fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }
void count_up(const fd& target) {
    const std::uint64_t one = 1;
    KEVRING_ASSERT(::write(target.number(), &one, sizeof one) == sizeof one,
                   "test setup: a full eventfd; read it first");
}

// The user fields of all events until none is left.
task<std::multiset<int>> take_all(event_queue& queue) {
    std::multiset<int> users;
    while (true) {
        const auto got = co_await queue.wait(1, 64, std::chrono::steady_clock::now());
        if (!got || got->empty()) co_return users;
        for (const event& one : *got) users.insert(one.user_data<int>());
    }
}

}  // namespace

TEST_CASE("a queue with every type on a loop makes no epoll call", "[kevent][loop_port]") {
    const int failed_step = kevent_test::in_child([] {
        if (!forbid(epoll_calls)) return 90;
        std::string folder = "/tmp/kevring-loop-XXXXXX";
        if (::mkdtemp(folder.data()) == nullptr) return 91;
        const auto sockets = kevent_test::connected_pair::sockets();
        const auto pipe = kevent_test::connected_pair::pipe();
        const fd polled = counter();
        const pid_t child = ::fork();
        if (child == 0) ::_exit(3);
        std::set<int> users;
        const auto body = [&]() -> task<void> {
            event_queue queue;
            using kevring::socket_interest;
            bool added = queue.add(timer(1ms), 1, kevring::repeat::once).has_value();
            added &= queue.add(kevring::readable(polled), 2).has_value();
            added &=
                queue
                    .add(kevring::socket_events(fd_ref(sockets.local()), socket_interest::receive),
                         3)
                    .has_value();
            added &=
                queue.add(kevring::pipe_events(fd_ref(pipe.local()), socket_interest::receive), 4)
                    .has_value();
            added &= queue.add(kevring::signal(SIGUSR2), 5).has_value();
            added &= queue.add(kevring::inode(folder), 6).has_value();
            added &= queue.add(kevring::process(child), 7).has_value();
            added &= queue.add(user_event(8), 8).has_value();
            if (!added) co_return;
            count_up(polled);
            sockets.send_from_peer();
            pipe.send_from_peer();
            ::kill(::getpid(), SIGUSR2);
            std::ofstream(folder + "/one") << "bytes";
            queue.notify(user_event(8));
            while (users.size() < 8) {
                const auto got = co_await queue.next();
                if (!got) co_return;
                users.insert(got->user_data<int>());
            }
        };
        ring loop;
        run_on(loop, body);
        std::filesystem::remove_all(folder);
        for (int user = 1; user <= 8; ++user)
            if (!users.contains(user)) return user;
        return 0;
    });

    CHECK(failed_step == 0);
}

TEST_CASE("an event on a loop costs no system call but the loop's own", "[kevent][loop_port]") {
    constexpr unsigned event_count = 200;
    const int result = kevent_test::in_child([] {
        std::uint64_t enters = 0;
        unsigned received = 0;
        const fd first = counter();
        const fd second = counter();
        const auto body = [&]() -> task<void> {
            event_queue queue;
            if (!queue.add(kevring::readable(first), 1)) co_return;
            if (!queue.add(kevring::readable(second), 2)) co_return;
            count_up(first);
            static_cast<void>(co_await queue.next());
            const bool is_forbidden =
                forbid({SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_ppoll, SYS_read,
                        SYS_fcntl, SYS_close, SYS_eventfd2, SYS_timerfd_create, SYS_timerfd_settime,
#if defined(SYS_poll)
                        SYS_poll, SYS_epoll_wait
#endif
                });
            if (!is_forbidden) co_return;
            const std::uint64_t enters_before = ring::current()->counters().enters;
            while (received < event_count) {
                count_up(received % 2 == 0 ? first : second);
                const auto got = co_await queue.next();
                if (!got || got->user_data<int>() != (received % 2 == 0 ? 1 : 2)) break;
                ++received;
            }
            enters = ring::current()->counters().enters - enters_before;
            ::_exit(received != event_count ? 2 : enters > event_count ? 3 : 0);
        };
        ring loop;
        run_on(loop, body);
        return 1;
    });

    CHECK(result == 0);
}

TEST_CASE("other threads add, change and remove requests of a queue on a loop",
          "[kevent][loop_port]") {
    constexpr int thread_count = 3;
    constexpr int round_count = 50;
    ring loop;
    event_queue queue(loop);
    std::atomic<int> running{thread_count};
    std::atomic<int> failures{0};
    int received = 0;
    std::mutex assertions;
    const auto add_and_remove = [&] {
        for (int round = 0; round < round_count; ++round) {
            // Catch's assertions are for one thread at a time.
            std::unique_lock checked(assertions);
            auto peers = kevent_test::connected_pair::sockets();
            checked.unlock();
            const fd_ref local(peers.local());
            std::atomic<bool> is_reported{false};
            const auto added = queue.add(kevring::writable(local), &is_reported);
            if (!added || !queue.modify(*added, POLLIN)) ++failures;
            peers.close_local();  // the queue watches the file, not the number
            checked.lock();
            peers.send_from_peer();
            checked.unlock();
            while (!is_reported) std::this_thread::yield();
            if (!queue.remove(*added)) ++failures;
            if (!peers.peer_sees_end()) ++failures;
        }
        if (--running == 0) queue.notify(user_event(0));
    };
    REQUIRE(queue.add(user_event(0)));
    const auto body = [&]() -> task<void> {
        while (running != 0) {
            const auto got = co_await queue.next();
            if (!got) co_return;
            if (got->type() != kevring::event_type::poll) continue;
            ++received;
            got->user_data<std::atomic<bool>*>()->store(true);
        }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < thread_count; ++i) threads.emplace_back(add_and_remove);

    run_on(loop, body);

    for (std::thread& each : threads) each.join();
    CHECK(failures == 0);
    CHECK(received >= thread_count * round_count);
    CHECK(queue.registration_count() == 1);
}

TEST_CASE("a reused descriptor number reports its new file only", "[kevent][loop_port]") {
    ring loop;
    const auto body = []() -> task<void> {
        event_queue queue;
        for (int round = 0; round < 20; ++round) {
            auto before = kevent_test::connected_pair::pipe();
            const int number = before.local();
            const auto first = queue.add(kevring::readable(fd_ref(number)), 1);
            REQUIRE(first);
            if (round % 2 == 0) co_await kevring::yield();
            before.send_from_peer();
            if (round % 3 == 0) co_await kevring::yield();
            REQUIRE(queue.remove(*first));
            const auto after = kevent_test::connected_pair::pipe();
            REQUIRE(::dup2(after.local(), number) == number);
            const auto second = queue.add(kevring::readable(fd_ref(number)), 2);
            REQUIRE(second);
            CHECK((co_await take_all(queue)).empty());
            after.send_from_peer();
            const auto users = co_await take_all(queue);
            CHECK(users == std::multiset<int>({2}));
            REQUIRE(queue.remove(*second));
        }
    };
    run_on(loop, body);
}

TEST_CASE("nothing registered goes deaf when the completion queue overflows",
          "[kevent][loop_port]") {
    constexpr int count = 300;
    ring loop(kevring::ring_options{.submission_entries = 4, .completion_entries = 8});
    std::vector<fd> counters;
    for (int i = 0; i < count; ++i) counters.push_back(counter());
    const auto body = [&]() -> task<void> {
        event_queue queue;
        for (int i = 0; i < count; ++i)
            REQUIRE(queue.add(kevring::readable(counters[static_cast<std::size_t>(i)]), i));
        for (int round = 0; round < 3; ++round) {
            std::set<int> missing;
            for (int i = 0; i < count; ++i) missing.insert(i);
            for (const fd& each : counters) count_up(each);
            while (!missing.empty()) {
                const auto got = co_await queue.wait(1, 64);
                REQUIRE(got);
                for (const event& one : *got) missing.erase(one.user_data<int>());
            }
            for (const fd& each : counters) {
                std::uint64_t value = 0;
                REQUIRE(::read(each.number(), &value, sizeof value) == sizeof value);
            }
            static_cast<void>(co_await take_all(queue));  // ends of requests that were armed again
        }
    };
    run_on(loop, body);
    CHECK(loop.counters().overflows != 0);
}

TEST_CASE("poll() on a loop returns an event that has just become ready", "[kevent][loop_port]") {
    ring loop;
    const auto body = []() -> task<void> {
        event_queue queue;
        const fd ready = counter();
        const auto added = queue.add(kevring::readable(ready), 1);
        REQUIRE(added);
        CHECK(queue.poll(4).empty());
        count_up(ready);
        CHECK(queue.poll(4).size() == 1);
        CHECK(queue.poll(4).empty());
        REQUIRE(queue.modify(*added, POLLIN));  // unread: it is reported again
        CHECK(queue.poll(4).size() == 1);
        co_return;
    };
    run_on(loop, body);
}

TEST_CASE("an event that came before a change of its mask is not lost",
          "[kevent][loop_port][K-045]") {
    ring loop;
    const auto body = []() -> task<void> {
        event_queue queue;
        using kevring::socket_interest;
        const auto pipe = kevent_test::connected_pair::pipe();
        const auto added =
            queue.add(kevring::pipe_events(fd_ref(pipe.local()), socket_interest::receive), 1);
        REQUIRE(added);
        co_await kevring::yield();
        pipe.send_from_peer();
        REQUIRE(queue.modify(*added, KEVENT_SOCKET_SEND));  // for which that end is never ready
        const auto users = co_await take_all(queue);
        CHECK(users == std::multiset<int>({1}));
    };
    run_on(loop, body);
}

TEST_CASE("a queue outlives its ring, and the ring a queue with requests in flight",
          "[kevent][loop_port]") {
    const fd ready = counter();
    std::optional<ring> loop{std::in_place};
    std::optional<event_queue> queue{std::in_place, *loop};
    REQUIRE(queue->add(kevring::readable(ready), 1));
    REQUIRE(queue->add(timer(1h), 2));
    const auto wait_in_vain = [&]() -> task<void> { CHECK((co_await take_all(*queue)).empty()); };
    run_on(*loop, wait_in_vain);
    SECTION("the ring ends first, and the next one has the event") {
        loop.reset();
        count_up(ready);
        ring next;
        const auto wait = [&]() -> task<void> {
            const auto users = co_await take_all(*queue);
            CHECK(users == std::multiset<int>({1}));
        };
        run_on(next, wait);
    }
    SECTION("the ring ends first, and poll() returns the event") {
        loop.reset();
        count_up(ready);
        CHECK(queue->poll(4).size() == 1);
    }
    SECTION("the queue ends first") {
        queue.reset();
        count_up(ready);
        loop.reset();
    }
    SECTION("the queue ends first, on another thread") {
        std::thread([&] { queue.reset(); }).join();
        count_up(ready);
        loop.reset();
    }
    SECTION("the queue ends within its loop") {
        const auto end = [&]() -> task<void> {
            count_up(ready);
            queue.reset();
            co_await kevring::yield();
        };
        run_on(*loop, end);
    }
}

TEST_CASE("a connection is released with the next iteration after its request was removed",
          "[kevent][loop_port]") {
    ring loop;
    const auto body = []() -> task<void> {
        event_queue queue;
        auto peers = kevent_test::connected_pair::sockets();
        const auto added = queue.add(kevring::readable(fd_ref(peers.local())));
        REQUIRE(added);
        peers.close_local();
        CHECK_FALSE(peers.peer_sees_end(0));
        REQUIRE(queue.remove(*added));
        co_await kevring::yield();
        co_await kevring::yield();
        CHECK(peers.peer_sees_end());
    };
    run_on(loop, body);
}

TEST_CASE("a queue that is shared gives each event to one loop", "[kevent][loop_port]") {
    const fd ready = counter();
    ring loop;
    const auto body = [&]() -> task<void> {
        event_queue queue;
        REQUIRE(queue.add(kevring::readable(ready), 1));
        REQUIRE(queue.add(timer(1h), 2));
        CHECK((co_await take_all(queue)).empty());
        int others = 0;
        std::thread other([&, shared = queue.share()]() mutable {
            const auto wait = [&]() -> task<void> {
                const auto got = co_await shared.next();
                others += got && got->user_data<int>() == 1 ? 1 : 0;
            };
            ring second;
            run_on(second, wait);
        });
        count_up(ready);
        other.join();
        CHECK(others == 1);
        CHECK((co_await take_all(queue)).empty());
    };
    run_on(loop, body);
}

TEST_CASE("a device that cannot be polled is refused on a loop", "[kevent][loop_port]") {
    ring loop;
    const auto body = []() -> task<void> {
        event_queue queue;
        const fd device(::open("/dev/null", O_RDWR | O_CLOEXEC));
        CHECK(queue.add(kevring::readable(device)).error() == std::errc::invalid_argument);
        co_return;
    };
    run_on(loop, body);
}
