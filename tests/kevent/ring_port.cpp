// ring_port.cpp: queues of one thread (KEVENT_INIT_ONE_THREAD), which watch descriptors by an
// io_uring of their own; kevent_describe(); and the environment variable that chooses a port.
#include "tests/kevent/kevent_fixture.hpp"
#include "tests/kevent/observed_owner.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>

using namespace kevent_test;

namespace {

constexpr unsigned one_thread = KEVENT_INIT_ONE_THREAD | KEVENT_INIT_NO_THREAD;

ukevent receiving(const connected_pair& peers, std::uint32_t req_flags = 0) {
    return record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV, req_flags);
}

std::string described(int number) {
    const int length = kevent_describe(number, nullptr, 0);
    REQUIRE(length > 0);
    std::string text(static_cast<std::size_t>(length) + 1, '?');
    REQUIRE(kevent_describe(number, text.data(), text.size()) == length);
    REQUIRE(text.back() == '\0');
    text.pop_back();
    return text;
}

/// Sets an environment variable as long as it lives.
class environment_value {
public:
    environment_value(const char* name, const char* value) : name_(name) {
        if (const char* const before = std::getenv(name)) before_ = before;
        ::setenv(name, value, 1);
    }
    environment_value(const environment_value&) = delete;
    ~environment_value() {
        if (before_.empty())
            ::unsetenv(name_);
        else
            ::setenv(name_, before_.c_str(), 1);
    }

private:
    const char* name_;
    std::string before_;
};

/// From now on, system calls of these numbers have `action` in this process.
void filter_calls(const std::vector<long>& numbers, std::uint32_t action) {
    std::vector<sock_filter> program{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    for (const long number : numbers) {
        program.push_back(
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0, 1));
        program.push_back(BPF_STMT(BPF_RET | BPF_K, action));
    }
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    KEVRING_ASSERT(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                       ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0,
                   "test setup: seccomp is refused; allow it for the tests");
}

}  // namespace

TEST_CASE("a second thread gets EBUSY; READY, commit and the description work on any thread",
          "[kevent][ring_port][threads]") {
    queue q(4, one_thread);
    q.add(user_event(1));
    const connected_pair peers = connected_pair::sockets();
    std::vector<int> refused;
    std::vector<int> accepted;
    std::thread([&] {
        ukevent one = receiving(peers);
        ukevent got{};
        refused = {q.ctl(KEVENT_CTL_ADD, one), q.ctl(KEVENT_CTL_MODIFY, one),
                   q.ctl(KEVENT_CTL_REMOVE, one), q.wait(1, 0),
                   kevent_get_events(q.number(), 1, 1, no_wait, &got, 0)};
        accepted = {q.ready(user_event(1)), kevent_describe(q.number(), nullptr, 0)};
    }).join();
    CHECK(refused == std::vector<int>(5, -EBUSY));
    CHECK(accepted[0] == 1);
    CHECK(accepted[1] > 0);

    REQUIRE(q.wait(4, 0) == 1);
    int freed = 0;
    std::thread([&] { freed = q.commit(1, 0); }).join();
    CHECK(freed == 1);
}

TEST_CASE("READY from another thread ends the owner's wait", "[kevent][ring_port][threads]") {
    queue q(0, one_thread);
    q.add(user_event(7));
    const bool with_record = GENERATE(true, false);
    std::thread other([&] { with_record ? q.ready(user_event(7)) : q.release(); });
    ukevent got{};
    const int count = kevent_get_events(q.number(), 1, 1, test_timeout, &got, 0);
    other.join();
    CHECK(count == (with_record ? 1 : 0));
}

TEST_CASE("registrations of a thread that has ended are reported to the next owner",
          "[kevent][ring_port][threads]") {
    queue q(0, one_thread);
    std::vector<connected_pair> all;
    for (int i = 0; i < 40; ++i) all.push_back(connected_pair::sockets());
    int answered = 0;
    std::thread([&] {
        for (const connected_pair& each : all) {
            ukevent one = receiving(each);
            answered += q.ctl(KEVENT_CTL_ADD, one);
        }
        all[0].send_from_peer();  // not collected before the thread ends
    }).join();
    REQUIRE(answered == 0);
    for (std::size_t i = 1; i < all.size(); i += 2) all[i].send_from_peer();

    std::vector<bool> reported(all.size());
    for (int count = 0; count < 21; ++count) {
        const ukevent got = q.get(1, 1)[0];
        for (std::size_t i = 0; i < all.size(); ++i)
            if (got.id.raw[0] == static_cast<std::uint32_t>(all[i].local())) reported[i] = true;
    }
    CHECK(reported[0]);
    for (std::size_t i = 1; i < all.size(); ++i) CHECK(reported[i] == (i % 2 == 1));
    CHECK(q.has_no_event());
    all[2].send_from_peer();
    CHECK(q.get_one().id.raw[0] == static_cast<std::uint32_t>(all[2].local()));
}

TEST_CASE("REMOVE has released the file when it returns", "[kevent][ring_port][remove][K-102]") {
    queue q(0, one_thread);
    const bool is_pending = GENERATE(false, true);
    connected_pair peers = connected_pair::sockets();
    q.add(user_event(1));
    q.add(receiving(peers));
    const ukevent request = receiving(peers);
    if (is_pending) peers.send_from_peer();
    peers.close_local();
    CHECK_FALSE(peers.peer_sees_end(0));

    q.remove(request);

    CHECK(peers.peer_sees_end(0));
    CHECK(q.has_no_event());
}

TEST_CASE("a burst that fills the queue of completions loses no event", "[kevent][ring_port]") {
    // More registrations than the ring has completions; each holds a descriptor.
    const std::size_t count = std::min<std::size_t>(2500, (raise_descriptor_limit() - 100) / 2);
    queue q(0, one_thread);
    std::vector<kevring::fd> counters;
    std::vector<ukevent> records;
    for (std::size_t i = 0; i < count; ++i) {
        counters.emplace_back(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
        records.push_back(
            record(KEVENT_POLL, counters.back().number(), KEVENT_POLL_POLLIN, KEVENT_REQ_ET));
    }
    REQUIRE(q.ctl(KEVENT_CTL_ADD, records) == 0);
    const std::uint64_t one = 1;
    for (int round = 0; round < 2; ++round) {
        for (const kevring::fd& each : counters)
            REQUIRE(::write(each.number(), &one, sizeof one) == sizeof one);
        pollfd control{q.number(), POLLIN, 0};  // not at once: see ring_port.hpp
        CHECK(::poll(&control, 1, 60'000) == 1);
        std::size_t reported = 0;
        while (reported < count) reported += q.get(1, 64).size();
        CHECK(reported == count);
        CHECK(q.has_no_event());
        CHECK_FALSE(q.readable());
        for (const kevring::fd& each : counters) {
            std::uint64_t value = 0;
            REQUIRE(::read(each.number(), &value, sizeof value) == sizeof value);
        }
    }
}

TEST_CASE("the control descriptor is readable until the last event is collected",
          "[kevent][ring_port][K-122]") {
    queue q(0, one_thread);
    std::vector<connected_pair> all;
    for (int i = 0; i < 30; ++i) {
        all.push_back(connected_pair::sockets());
        q.add(receiving(all.back()));
    }
    CHECK_FALSE(q.readable());
    for (const connected_pair& each : all) each.send_from_peer();
    for (std::size_t i = 0; i < all.size(); ++i) {
        CHECK(q.becomes_readable());
        CHECK(q.get(1, 1).size() == 1);
    }
    CHECK(q.has_no_event());
    CHECK_FALSE(q.readable());
}

TEST_CASE("each event makes the control descriptor readable, also after others",
          "[kevent][ring_port][K-122]") {
    queue q(0, one_thread);
    const connected_pair peers = connected_pair::sockets();
    q.add(receiving(peers));
    for (int i = 0; i < 5; ++i) {
        peers.send_from_peer();
        CHECK(q.becomes_readable());
        CHECK(q.get(1, 1).size() == 1);
        peers.drain_local();
        CHECK(q.has_no_event());
    }
}

TEST_CASE("an event is reported once, however often its descriptor becomes ready before",
          "[kevent][ring_port]") {
    queue q(0, one_thread);
    const connected_pair first = connected_pair::sockets();
    const connected_pair second = connected_pair::sockets();
    q.add(receiving(first));
    q.add(receiving(second));
    for (int i = 0; i < 3; ++i) {
        first.send_from_peer();
        second.send_from_peer();
    }
    CHECK(q.get(1, 1).size() == 1);
    CHECK(q.get(1, 1).size() == 1);
    CHECK(q.has_no_event());
}

TEST_CASE("a stop and SIGCONT do not end the wait of an owner",
          "[kevent][ring_port][interruptions][K-067]") {
    // The child waits; this process stops it, and sends the event afterwards.
    const connected_pair peers = connected_pair::sockets();
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        const int number = kevent_init(nullptr, 0, one_thread);
        ukevent one = receiving(peers, KEVENT_REQ_ALWAYS_QUEUE);
        if (kevent_ctl(number, KEVENT_CTL_ADD, 1, &one) != 0) ::_exit(90);
        ukevent got{};
        ::_exit(kevent_get_events(number, 1, 1, test_timeout, &got, 0) == 1 ? 7 : 91);
    }
    for (int i = 0; i < 5; ++i) {
        int status = 0;
        ::kill(child, SIGSTOP);
        REQUIRE(::waitpid(child, &status, WUNTRACED) == child);
        REQUIRE(WIFSTOPPED(status));
        ::kill(child, SIGCONT);
        REQUIRE(::waitpid(child, &status, WCONTINUED) == child);
        REQUIRE(WIFCONTINUED(status));
        std::this_thread::yield();
    }
    peers.send_from_peer();
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 7);
}

TEST_CASE("a signal handler ends the wait of an owner",
          "[kevent][ring_port][interruptions][K-067]") {
    const connected_pair peers = connected_pair::sockets();
    const int result = interrupted(
        [&] {
            const int number = kevent_init(nullptr, 0, one_thread);
            ukevent one = receiving(peers);
            if (kevent_ctl(number, KEVENT_CTL_ADD, 1, &one) != 0) return 90;
            ukevent got{};
            const int count = kevent_get_events(number, 1, 1, test_timeout, &got, 0);
            ::close(number);
            return count;
        },
        GENERATE(0, SA_RESTART));
    CHECK(result == 0);
}

TEST_CASE("an owner that is cancelled while it waits loses no event",
          "[kevent][ring_port][threads][K-127]") {
    for (int round = 0; round < 20; ++round) {
        queue q(0, one_thread);
        const connected_pair peers = connected_pair::sockets();
        std::atomic<int> collected{0};
        observed_owner owner([&] {
            ukevent one = receiving(peers);
            if (q.ctl(KEVENT_CTL_ADD, one) != 0) return;
            ukevent got{};
            collected = kevent_get_events(q.number(), 1, 1, test_timeout, &got, 0);
        });
        REQUIRE(owner.sleeps_in_enter());
        if (round % 2 == 0) peers.send_from_peer();
        ::pthread_cancel(owner.native_handle());
        owner.join();
        if (round % 2 == 1) peers.send_from_peer();
        if (collected == 0) CHECK(is_done(q.get_one()));
    }
}

// The library's own object at the end of the thread is destroyed first.
TEST_CASE("a destructor at the end of a thread uses a queue that the thread owns",
          "[kevent][ring_port][threads]") {
    struct last_call {
        ~last_call() {
            ukevent got{};
            *count = kevent_get_events(number, 1, 1, no_wait, &got, 0);
        }
        int number = -1;
        int* count = nullptr;
    };
    queue q(0, one_thread);
    int collected = -1;
    std::thread([&] {
        static thread_local last_call at_end;
        at_end.number = q.number();
        at_end.count = &collected;
        ukevent one = user_event(3);
        static_cast<void>(q.ctl(KEVENT_CTL_ADD, one));
        q.ready(user_event(3));
    }).join();
    CHECK(collected == 1);

    q.ready(user_event(3));
    CHECK(q.get_one().id.raw_u64 == 3);
}

TEST_CASE("the child of a fork gets an error, and its parent loses no event",
          "[kevent][ring_port][fork]") {
    queue q(0, one_thread);
    const connected_pair peers = connected_pair::sockets();
    q.add(receiving(peers));
    peers.send_from_peer();
    const int answer = in_child([&] {
        ukevent got{};
        const int count = kevent_get_events(q.number(), 1, 1, no_wait, &got, 0);
        return count == -EBADF || count == -EINVAL ? 7 : 90;
    });
    CHECK(answer == 7);
    CHECK(is_done(q.get_one()));
    peers.drain_local();
    peers.send_from_peer();
    CHECK(is_done(q.get_one()));
}

TEST_CASE("a child that lives on keeps no file of its parent's queue open",
          "[kevent][ring_port][fork]") {
    connected_pair peers = connected_pair::sockets();
    queue q(0, one_thread);
    q.add(user_event(1));
    const ukevent request = receiving(peers);
    q.add(request);
    int gate[2];
    REQUIRE(::pipe2(gate, O_CLOEXEC) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::close(gate[1]);
        ::close(peers.local());
        char byte = 0;
        ::_exit(::read(gate[0], &byte, 1) == 0 ? 0 : 1);
    }
    peers.close_local();
    q.close();
    queue next(0, one_thread);  // reuses the number; the first queue is released

    // The child closes its own copy as it starts.
    CHECK(peers.peer_sees_end());
    ::close(gate[0]);
    ::close(gate[1]);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
}

TEST_CASE("a queue of one thread calls no function of the epoll family",
          "[kevent][ring_port][seccomp]") {
    const int answer = in_child([] {
        filter_calls(
            {
#ifdef SYS_epoll_wait
                SYS_epoll_wait,
#endif
                SYS_epoll_pwait, SYS_epoll_pwait2},
            SECCOMP_RET_KILL_PROCESS);
        const int number = kevent_init(nullptr, 0, one_thread);
        int sockets[2];
        int pipes[2];
        if (number < 0 || ::pipe(pipes) != 0 ||
            ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets) != 0)
            return 90;
        const pid_t child = ::fork();
        if (child == 0) {
            char byte = 0;
            ::_exit(::read(pipes[0], &byte, 1) >= 0 ? 0 : 1);
        }
        const int counter = ::eventfd(0, EFD_NONBLOCK);
        std::vector<ukevent> records{
            record(KEVENT_SOCKET, sockets[0], KEVENT_SOCKET_RECV),
            record(KEVENT_PIPE, pipes[0], KEVENT_SOCKET_RECV),
            record(KEVENT_POLL, counter, KEVENT_POLL_POLLIN),
            record(KEVENT_TIMER, 0, KEVENT_TIMER_FIRED, KEVENT_REQ_ONESHOT),
            record(KEVENT_SIGNAL, SIGUSR2, KEVENT_SIGNAL_DELIVERY),
            record(KEVENT_PROCESS, child, KEVENT_PROCESS_EXIT),
            user_event(5)};
        records[3].id.raw[1] = 1'000'000;
        records[4].id.raw_u64 = SIGUSR2 | KEVENT_SIGNAL_NOMASK;
        std::vector<ukevent> reply = records;
        if (kevent_ctl(number, KEVENT_CTL_ADD, 7, reply.data()) != 0) return 91;
        const std::uint64_t one = 1;
        if (::write(sockets[1], "x", 1) != 1 || ::write(pipes[1], "y", 1) != 1 ||
            ::write(counter, &one, sizeof one) != sizeof one || ::raise(SIGUSR2) != 0 ||
            kevent_ctl(number, KEVENT_CTL_READY, 1, &records[6]) != 1)
            return 92;
        std::array<bool, KEVENT_MAX> reported{};
        for (int count = 0; count < 7;) {
            std::array<ukevent, 8> got{};
            const int more = kevent_get_events(number, 1, 8, test_timeout, got.data(), 0);
            if (more <= 0) return 93;
            for (int i = 0; i < more; ++i) {
                const std::uint32_t type = got[static_cast<std::size_t>(i)].type;
                count += reported[type] ? 0 : 1;
                reported[type] = true;
            }
        }
        return 7;
    });
    CHECK(answer == 7);
}

TEST_CASE("an owner that finds an event, and one that modifies it, makes one system call for each",
          "[kevent][ring_port][seccomp][epoll-control][K-043]") {
    const int answer = in_child([] {
        const int number = kevent_init(nullptr, 0, one_thread);
        int pipes[2];
        if (number < 0 || ::pipe(pipes) != 0) return 90;
        ukevent one = record(KEVENT_PIPE, pipes[0], KEVENT_SOCKET_RECV);
        if (kevent_ctl(number, KEVENT_CTL_ADD, 1, &one) != 0) return 91;
        if (::write(pipes[1], "x", 1) != 1) return 92;
        filter_calls({SYS_epoll_ctl, SYS_getpid, SYS_fcntl,
#ifdef SYS_poll
                      SYS_poll,
#endif
                      SYS_ppoll},
                     SECCOMP_RET_KILL_PROCESS);
        ukevent got{};
        for (int i = 0; i < 20; ++i) {
            if (kevent_get_events(number, 1, 1, test_timeout, &got, 0) != 1) return 93;
            // The byte is unread: this reports it again.
            if (kevent_ctl(number, KEVENT_CTL_MODIFY, 1, &got) != 0) return 94;
        }
        if (kevent_get_events(number, 1, 1, test_timeout, &got, 0) != 1) return 95;
        char byte = 0;
        if (::read(pipes[0], &byte, 1) != 1) return 96;
        return kevent_ctl(number, KEVENT_CTL_MODIFY, 1, &got) == 0 ? 7 : 97;
    });
    CHECK(answer == 7);
}

TEST_CASE("an owner's calls take no other file for the control file that had its number",
          "[kevent][ring_port][K-014]") {
    const bool is_closed = GENERATE(true, false);
    const int answer = in_child([&] {
        alignas(kevent_ring) std::array<std::byte, sizeof(kevent_ring) + 4 * sizeof(ukevent)>
            memory;
        auto* const ring = reinterpret_cast<kevent_ring*>(memory.data());
        int failures = 0;
        for (int call = 0; call < 4; ++call) {
            const int number = kevent_init(ring, 4, one_thread);
            const int other = kevent_init(nullptr, 0, one_thread);
            int pipes[2];
            if (number < 0 || other < 0 || ::pipe(pipes) != 0) return 90;
            ukevent one = record(KEVENT_PIPE, pipes[0], KEVENT_SOCKET_RECV);
            if (kevent_ctl(number, KEVENT_CTL_ADD, 1, &one) != 0) return 91;
            if (::write(pipes[1], "x", 1) != 1) return 92;
            if (is_closed)
                ::close(number);
            else
                ::dup2(other, number);
            ukevent got{};
            const int answers = call == 0   ? kevent_get_events(number, 1, 1, no_wait, &got, 0)
                                : call == 1 ? kevent_wait(number, 1, 0, no_wait, 0)
                                : call == 2 ? kevent_ctl(number, KEVENT_CTL_MODIFY, 1, &one)
                                            : kevent_get_events(number, 1, 0, no_wait, &got, 0);
            failures += answers == (is_closed ? -EBADF : -EINVAL) ? 0 : 1;
            ::close(pipes[0]);
            pollfd released{pipes[1], 0, 0};  // POLLERR, once the queue is destroyed
            failures += ::poll(&released, 1, 10'000) == 1 ? 0 : 1;
        }
        return failures == 0 ? 7 : failures;
    });
    CHECK(answer == 7);
}

TEST_CASE("kevent_init returns the error of a system that refuses io_uring",
          "[kevent][ring_port][seccomp]") {
    const int error = GENERATE(EPERM, ENOSYS);
    const environment_value unset("KEVRING_KEVENT_PORT", "");
    const int answer = in_child([&] {
        filter_calls({425}, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error));
        const int refused = kevent_init(nullptr, 0, one_thread);
        const int shared = kevent_init(nullptr, 0, KEVENT_INIT_NO_THREAD);
        return refused == -error && shared >= 0 ? 7 : 90;
    });
    CHECK(answer == 7);
}

TEST_CASE("a description names the port, the reason and the hidden descriptors",
          "[kevent][describe]") {
    const environment_value unset("KEVRING_KEVENT_PORT", "");
    queue shared(0, 0);
    CHECK(described(shared.number()).find("port: epoll\n") != std::string::npos);
    queue q(0, one_thread);
    const connected_pair peers = connected_pair::sockets();
    q.add(user_event(1));
    q.add(receiving(peers));
    CHECK(described(q.number()) ==
          "port: ring\nreason: KEVENT_INIT_ONE_THREAD\n"
          "registrations: 2\nhidden descriptors: 1\n");

    std::array<char, 6> few{'?', '?', '?', '?', '?', '?'};
    CHECK(kevent_describe(q.number(), few.data(), few.size()) > 6);
    CHECK(std::string(few.data()) == "port:");
    CHECK(kevent_describe(q.number(), nullptr, 1) == -EFAULT);
    CHECK(kevent_describe(-1, nullptr, 0) == -EBADF);
    CHECK(kevent_describe(peers.local(), nullptr, 0) == -EINVAL);
}

TEST_CASE("KEVRING_KEVENT_PORT chooses the port of a queue, and an unknown name is refused",
          "[kevent][describe]") {
    {
        const environment_value ring("KEVRING_KEVENT_PORT", "ring");
        queue q(0, 0);
        CHECK(described(q.number()).find("port: ring\nreason: KEVRING_KEVENT_PORT\n") == 0);
    }
    {
        const environment_value epoll("KEVRING_KEVENT_PORT", "epoll");
        queue q(0, one_thread);
        CHECK(described(q.number()).find("port: epoll\nreason: KEVRING_KEVENT_PORT\n") == 0);
    }
    {
        const environment_value driver("KEVRING_KEVENT_PORT", "driver");
        queue q(8, 0);
        CHECK(described(q.number()).find("port: driver\nreason: KEVRING_KEVENT_PORT\n") == 0);
        queue without_ring(0, 0);
        CHECK(described(without_ring.number()).find("port: epoll\n") == 0);
    }
    // The message goes to a pipe in place of the standard error output.
    const environment_value unknown("KEVRING_KEVENT_PORT", "rings");
    int pipes[2];
    REQUIRE(::pipe2(pipes, O_CLOEXEC) == 0);
    const int answer = in_child([&] {
        ::dup2(pipes[1], STDERR_FILENO);
        return kevent_init(nullptr, 0, 0) == -EINVAL ? 7 : 90;
    });
    ::close(pipes[1]);
    std::array<char, 200> text{};
    const ssize_t length = ::read(pipes[0], text.data(), text.size() - 1);
    ::close(pipes[0]);
    CHECK(answer == 7);
    REQUIRE(length > 0);
    CHECK(std::string(text.data()).find("KEVRING_KEVENT_PORT=rings") != std::string::npos);
}
