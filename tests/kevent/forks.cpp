// forks.cpp: a child of fork(2), clone(2) or vfork(2) cannot use a queue of its parent, and does
// not disturb it, whatever it calls and destroys.
#include "tests/kevent/kevent_fixture.hpp"

#include <kevring/kevent/event_queue.hpp>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <set>
#include <string>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

using namespace kevent_test;
using kevring::event_queue;
using namespace std::chrono_literals;

namespace {

enum class way { fork, clone };

// As in_child(), with the child made by `how`. A clone(2) that the C library does not see runs no
// handler in the child.
template <class Act>
int in_copy(way how, Act act) {
    if (how == way::fork) return in_child(act);
    const long child = ::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr);
    if (child == 0) ::_exit(act());
    REQUIRE(child > 0);
    int status = 0;
    REQUIRE(::waitpid(static_cast<pid_t>(child), &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

way any_way() {
#if defined(__SANITIZE_THREAD__)
    return way::fork;  // the sanitizer has to see the fork
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
    return way::fork;
#else
    return GENERATE(way::fork, way::clone);
#endif
#else
    return GENERATE(way::fork, way::clone);
#endif
}

// A queue with a registration of each type, and the means to make all of them ready.
class full_queue {
public:
    full_queue() {
        REQUIRE(::mkdtemp(folder_.data()) != nullptr);
        REQUIRE(queue->add(kevring::readable(kevring::fd_ref(polled.local())), 1));
        REQUIRE(queue->add(kevring::socket_events(kevring::fd_ref(sockets.local()),
                                                  kevring::socket_interest::receive),
                           2));
        REQUIRE(queue->add(
            kevring::pipe_events(kevring::fd_ref(pipe.local()), kevring::socket_interest::receive),
            3));
        REQUIRE(queue->add(kevring::timer(50ms), 4));
        REQUIRE(queue->add(kevring::inode(folder_), 5));
        REQUIRE(queue->add(kevring::signal(SIGUSR1), 6));
        REQUIRE(queue->add(kevring::user_event(7), 7));
    }
    full_queue(const full_queue&) = delete;
    full_queue& operator=(const full_queue&) = delete;
    ~full_queue() { std::filesystem::remove_all(folder_); }

    void check_all_are_reported() {
        polled.send_from_peer();
        sockets.send_from_peer();
        pipe.send_from_peer();
        std::ofstream(folder_ + "/one").put('x');
        ::kill(::getpid(), SIGUSR1);
        REQUIRE(queue->notify(kevring::user_event(7)));
        std::set<int> seen;
        const auto end = now() + half_of_test_timeout;
        while (seen.size() < 7 && now() < end) {
            for (const kevring::event& one : queue->poll(16)) seen.insert(one.user_data<int>());
            std::this_thread::yield();
        }
        CHECK(seen == std::set<int>{1, 2, 3, 4, 5, 6, 7});
    }

    const connected_pair polled = connected_pair::sockets();
    const connected_pair sockets = connected_pair::sockets();
    const connected_pair pipe = connected_pair::pipe();
    std::optional<event_queue> queue{std::in_place};

private:
    std::string folder_ = "/tmp/kevring-forks-XXXXXX";
};

}  // namespace

TEST_CASE("a child that destroys its copy of a queue leaves the registrations of its parent alone",
          "[kevent][fork]") {
    const way how = any_way();
    full_queue all;
    const auto act = [&] {
        all.queue.reset();
        return 0;
    };

    CHECK(in_copy(how, act) == 0);

    all.check_all_are_reported();
}

TEST_CASE("a child that leaves by exit() leaves the registrations of its parent alone",
          "[kevent][fork]") {
    static std::optional<full_queue> all;
    all.emplace();
    std::cout.flush();
    std::fflush(nullptr);  // otherwise the child's exit() writes the buffers again
    const pid_t child = ::fork();
    if (child == 0) {
        std::atexit([] { all->queue.reset(); });  // as for a static object
        std::exit(0);
    }
    REQUIRE(child > 0);
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);

    all->check_all_are_reported();
    all.reset();
}

TEST_CASE("a queue of the parent reports errors in the child, and the parent is not affected",
          "[kevent][fork]") {
    const way how = any_way();
    full_queue all;
    const auto peers = connected_pair::sockets();
    const auto act = [&] {
        event_queue& queue = *all.queue;
        const auto forbidden = std::errc::operation_not_permitted;
        const kevring::fd_ref local(peers.local());
        if (queue.add(kevring::user_event(9)).error() != forbidden) return 1;
        if (queue.add(kevring::timer(1ms)).error() != forbidden) return 2;
        if (queue.add(kevring::readable(local)).error() != forbidden) return 3;
        if (queue.add(kevring::inode("/tmp")).error() != forbidden) return 4;
        if (queue.modify({7, kevring::event_type::unotify}, 1).error() != forbidden) return 5;
        if (queue.remove({7, kevring::event_type::unotify})) return 6;
        if (queue.notify(kevring::user_event(7))) return 7;
        if (queue.registration_count() != 0) return 8;
        if (!queue.poll(16).empty()) return 9;
        return 0;
    };

    CHECK(in_copy(how, act) == 0);

    all.check_all_are_reported();
}

TEST_CASE("calls on a control descriptor of the parent fail in the child", "[kevent][fork]") {
    const way how = any_way();
    queue q(4);
    const auto peers = connected_pair::sockets();
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    q.add(user_event(1));
    const auto act = [&] {
        ukevent one = user_event(1);
        for (const unsigned command :
             {KEVENT_CTL_ADD, KEVENT_CTL_REMOVE, KEVENT_CTL_MODIFY, KEVENT_CTL_READY})
            if (kevent_ctl(q.number(), command, 1, &one) >= 0) return 1;
        if (kevent_get_events(q.number(), 1, 1, no_wait, &one, 0) >= 0) return 2;
        if (kevent_wait(q.number(), 1, 0, no_wait, 0) >= 0) return 3;
        if (kevent_commit(q.number(), 0, 0) >= 0) return 4;
        ::close(q.number());
        // The child can open queues, also with the number of the parent's queue.
        const int own = kevent_init(nullptr, 0, 0);
        if (own < 0 || kevent_ctl(own, KEVENT_CTL_ADD, 1, &one) != 0) return 5;
        if (kevent_ctl(own, KEVENT_CTL_READY, 1, &one) != 1) return 6;
        if (kevent_get_events(own, 1, 1, test_timeout, &one, 0) != 1) return 7;
        return 0;
    };

    CHECK(in_copy(how, act) == 0);

    peers.send_from_peer();
    CHECK(q.get_one().type == KEVENT_SOCKET);
    CHECK(q.ready(user_event(1)) == 1);
    CHECK(q.get_one().type == KEVENT_UNOTIFY);
}

TEST_CASE("descriptors that the child opens are not closed or changed by the parent's objects",
          "[kevent][fork]") {
    const way how = any_way();
    full_queue all;
    const auto act = [&] {
        if (kevent_ctl(-1, KEVENT_CTL_ADD, 0, nullptr) != -EBADF)
            return 1;  // first call: it closes
        // They get the numbers of the descriptors of the parent's queue.
        const int set = ::epoll_create1(0);
        std::array<int, 64> own{};
        for (int& number : own) {
            number = ::eventfd(0, EFD_NONBLOCK);
            epoll_event request{};
            request.events = EPOLLIN;
            if (::epoll_ctl(set, EPOLL_CTL_ADD, number, &request) != 0) return 2;
        }
        all.queue.reset();
        const std::uint64_t one = 1;
        for (const int number : own)
            if (::write(number, &one, sizeof one) != sizeof one) return 3;
        std::array<epoll_event, 128> events;
        const int ready = ::epoll_wait(set, events.data(), static_cast<int>(events.size()), 0);
        return ready == static_cast<int>(own.size()) ? 0 : 4;
    };

    CHECK(in_copy(how, act) == 0);

    all.check_all_are_reported();
}

TEST_CASE("a child keeps no connection open that its parent has registered", "[kevent][fork]") {
    const bool is_c = GENERATE(true, false);
    auto peers = connected_pair::sockets();
    std::optional<queue> c_queue;
    std::optional<event_queue> cpp_queue;
    const kevring::fd_ref local(peers.local());
    if (is_c) {
        c_queue.emplace();
        c_queue->add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    } else {
        cpp_queue.emplace();
        REQUIRE(cpp_queue->add(kevring::socket_events(local, kevring::socket_interest::receive)));
    }
    peers.close_local();
    auto until_end = connected_pair::pipe();

    const pid_t child = ::fork();
    if (child == 0) {
        until_end.close_peer();
        char byte = 0;
        pollfd end{until_end.local(), POLLIN, 0};
        ::poll(&end, 1, 60'000);
        ::_exit(static_cast<int>(::read(until_end.local(), &byte, 1)));
    }
    REQUIRE(child > 0);
    c_queue.reset();
    cpp_queue.reset();

    CHECK(peers.peer_sees_end());  // while the child lives
    until_end.close_peer();
    CHECK(::waitpid(child, nullptr, 0) == child);
}

TEST_CASE("a child that shares the memory of its parent cannot change a queue", "[kevent][fork]") {
    queue q;
    const auto peers = connected_pair::sockets();
    const ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    q.add(user_event(1));
    static volatile int added = 0;
    static volatile int marked = 0;
    static volatile int modified = 0;
    static volatile int made = 0;
    const pid_t child = ::vfork();
    if (child == 0) {
        ukevent one = request;
        added = kevent_ctl(q.number(), KEVENT_CTL_ADD, 1, &one);
        one = user_event(1);
        marked = kevent_ctl(q.number(), KEVENT_CTL_READY, 1, &one);
        one.event = KEVENT_MASK_EMPTY;
        modified = kevent_ctl(q.number(), KEVENT_CTL_MODIFY, 1, &one);
        made = kevent_init(nullptr, 0, 0);
        ::_exit(0);
    }
    REQUIRE(child > 0);
    REQUIRE(::waitpid(child, nullptr, 0) == child);

    CHECK(added == -EBADF);
    CHECK(marked == -EBADF);
    CHECK(modified == -EBADF);
    CHECK(made == -EPERM);
    CHECK(q.has_no_event());
    q.add(request);
    peers.send_from_peer();
    CHECK(q.get_one().type == KEVENT_SOCKET);
}

TEST_CASE("the first call of a child can be kevent_init", "[kevent][fork]") {
    const way how = any_way();
    const queue of_parent;

    CHECK(in_copy(how, [] {
              const int number = kevent_init(nullptr, 0, 0);
              return number >= 0 && kevent_ctl(number, KEVENT_CTL_READY, 0, nullptr) == 0 ? 0 : 1;
          }) == 0);
}

TEST_CASE(
    "a child that shares the memory of its parent and closes descriptors leaves its queue alone",
    "[kevent][fork]") {
    queue q(4);
    q.add(user_event(1));
    static volatile int got = 0;
    static volatile int waited = 0;
    static volatile int committed = 0;
    const pid_t child = ::vfork();
    if (child == 0) {
        ::close(q.number());
        ukevent one;
        got = kevent_get_events(q.number(), 1, 1, no_wait, &one, 0);
        waited = kevent_wait(q.number(), 1, 0, no_wait, 0);
        committed = kevent_commit(q.number(), 0, 0);
        ::_exit(0);
    }
    REQUIRE(child > 0);
    REQUIRE(::waitpid(child, nullptr, 0) == child);

    CHECK(got == -EBADF);
    CHECK(waited == -EBADF);
    CHECK(committed == -EBADF);
    CHECK(q.ready(user_event(1)) == 1);
    CHECK(q.get_one().type == KEVENT_UNOTIFY);
}

namespace {

// Sends a byte of a file by a queue of its own, and returns 0 once the event has come.
int send_by_own_queue() {
    const int number = kevent_init(nullptr, 0, 0);
    const int file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int pair[2];
    if (number < 0 || file < 0) return 1;
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return 2;
    if (aio_sendfile(number, pair[0], file, 0, 1) < 0) return 3;
    ukevent one;
    if (kevent_get_events(number, 1, 1, test_timeout, &one, 0) != 1) return 4;
    for (const int each : {pair[0], pair[1], file}) ::close(each);
    kevent_close(number);
    return one.type == KEVENT_AIO ? 0 : 5;
}

}  // namespace

TEST_CASE("a child sends files by aio_sendfile after its parent has", "[kevent][fork]") {
    const way how = any_way();
    REQUIRE(send_by_own_queue() == 0);

    CHECK(in_copy(how, send_by_own_queue) == 0);
    CHECK(send_by_own_queue() == 0);
}

TEST_CASE("a child that shares the memory of its parent starts no transfer", "[kevent][fork]") {
    queue q;
    const auto peers = connected_pair::sockets();
    const kevring::fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    static volatile long started = 0;
    const pid_t child = ::vfork();
    if (child == 0) {
        started = aio_sendfile(q.number(), peers.local(), file.number(), 0, 1);
        ::_exit(0);
    }
    REQUIRE(child > 0);
    REQUIRE(::waitpid(child, nullptr, 0) == child);

    CHECK(started == -EBADF);
    CHECK(aio_sendfile(q.number(), peers.local(), file.number(), 0, 1) > 0);
    CHECK(q.get_one().type == KEVENT_AIO);
}
