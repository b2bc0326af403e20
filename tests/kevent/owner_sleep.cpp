// owner_sleep.cpp: the sleep of a queue of one thread (KEVENT_INIT_ONE_THREAD), which is one
// io_uring_enter(2), and the signals that end it.
#include "tests/kevent/kevent_fixture.hpp"
#include "tests/kevent/observed_owner.hpp"

#include <atomic>
#include <csignal>
#include <cstddef>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>

using namespace kevent_test;

namespace {

constexpr unsigned one_thread = KEVENT_INIT_ONE_THREAD | KEVENT_INIT_NO_THREAD;

/// An owner that waits for the bytes of one peer.
class sleeping_owner {
public:
    explicit sleeping_owner(std::function<void()> prepare = [] {})
        : thread_([this, prepare = std::move(prepare)] {
              // A test before may have left it blocked.
              set_blocked(SIGUSR1, SIG_UNBLOCK);
              const int number = kevent_init(nullptr, 0, one_thread);
              ukevent one = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
              if (number < 0 || kevent_ctl(number, KEVENT_CTL_ADD, 1, &one) != 0) return;
              prepare();
              ukevent got{};
              result = kevent_get_events(number, 1, 1, test_timeout, &got, 0);
              kevent_close(number);
          }) {
        REQUIRE(thread_.sleeps_in_enter());
    }

    void send(int signal) { ::pthread_kill(thread_.native_handle(), signal); }
    /// Sends a signal that does not end the wait, and returns when the thread sleeps on. False: the
    /// wait has ended. A thread that is about to wake up still counts as asleep in /proc, so only
    /// join() tells that a signal has ended the wait.
    bool sleeps_after(int signal) {
        send(signal);
        return thread_.sleeps_in_enter();
    }
    int join() {
        thread_.join();
        return result;
    }
    static void set_blocked(int signal, int how) {
        sigset_t only;
        ::sigemptyset(&only);
        ::sigaddset(&only, signal);
        ::pthread_sigmask(how, &only, nullptr);
    }

    const connected_pair peers = connected_pair::sockets();

private:
    std::atomic<int> result{-1};
    observed_owner thread_;
};

/// Gives a signal a handler as long as it lives.
class handler {
public:
    explicit handler(int signal) : signal_(signal) {
        struct sigaction handle{};
        handle.sa_handler = [](int) {};
        REQUIRE(::sigaction(signal, &handle, &before_) == 0);
    }
    handler(const handler&) = delete;
    ~handler() { ::sigaction(signal_, &before_, nullptr); }

private:
    const int signal_;
    struct sigaction before_{};
};

}  // namespace

TEST_CASE("a signal that the process ignores does not end the sleep of an owner",
          "[kevent][ring_port][interruptions][K-067]") {
    const handler of_another(SIGUSR1);
    sleeping_owner owner;

    for (int i = 0; i < 5; ++i) CHECK(owner.sleeps_after(SIGWINCH));
    owner.peers.send_from_peer();

    CHECK(owner.join() == 1);
}

TEST_CASE("a signal that its thread blocks does not end the sleep of an owner",
          "[kevent][ring_port][interruptions][K-067]") {
    const handler handled(SIGUSR1);
    sleeping_owner owner([] { sleeping_owner::set_blocked(SIGUSR1, SIG_BLOCK); });

    for (int i = 0; i < 5; ++i) CHECK(owner.sleeps_after(SIGUSR1));
    owner.peers.send_from_peer();

    CHECK(owner.join() == 1);
}

TEST_CASE("a handler that is installed during the sleep of an owner ends it",
          "[kevent][ring_port][interruptions][K-067]") {
    sleeping_owner owner;
    const handler installed(SIGUSR1);

    owner.send(SIGUSR1);

    CHECK(owner.join() == 0);
}

TEST_CASE("a handler that removes itself ends the sleep of an owner",
          "[kevent][ring_port][interruptions][K-067]") {
    sleeping_owner owner;
    struct sigaction once{};
    once.sa_handler = [](int) {};
    once.sa_flags = SA_RESETHAND;
    struct sigaction before{};
    REQUIRE(::sigaction(SIGUSR1, &once, &before) == 0);

    owner.send(SIGUSR1);

    CHECK(owner.join() == 0);
    ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("a signal to the process ends the sleep of its one thread",
          "[kevent][ring_port][interruptions][K-067]") {
    const int result = in_child([] {
        struct sigaction handle{};
        handle.sa_handler = [](int) {};
        ::sigaction(SIGALRM, &handle, nullptr);
        const int number = kevent_init(nullptr, 0, one_thread);
        const itimerval soon{{0, 1000}, {0, 1000}};  // the first ones may come before it waits
        ukevent got{};
        if (number < 0 || ::setitimer(ITIMER_REAL, &soon, nullptr) != 0) return 90;
        return kevent_get_events(number, 1, 1, test_timeout, &got, 0) == 0 ? 7 : 91;
    });
    CHECK(result == 7);
}

TEST_CASE("an owner sleeps without ppoll(2), and an eventfd, a timer and READY end the sleep",
          "[kevent][ring_port][seccomp]") {
    const int result = in_child([] {
        sock_filter program[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ppoll, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        sock_fprog filter{4, program};
        if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
            ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
            return 90;
        const int number = kevent_init(nullptr, 0, one_thread);
        const int counter = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        ukevent records[] = {record(KEVENT_POLL, counter, KEVENT_POLL_POLLIN, KEVENT_REQ_ONESHOT),
                             record(KEVENT_TIMER, 0, KEVENT_TIMER_FIRED, KEVENT_REQ_ONESHOT),
                             user_event(5, KEVENT_REQ_ONESHOT)};
        records[1].id.raw[1] = 2'000'000;
        if (number < 0 || kevent_ctl(number, KEVENT_CTL_ADD, 3, records) != 0) return 91;
        const auto collect = [number] {
            ukevent got{};
            const int count = kevent_get_events(number, 1, 1, test_timeout, &got, 0);
            return count == 1 ? static_cast<int>(got.type) : -1;
        };
        if (collect() != KEVENT_TIMER) return 92;
        const auto waits_for = [&](std::uint32_t type, auto act) {
            observed_owner other([&] { act(); });
            const int got = collect();
            other.join();
            return got == static_cast<int>(type);
        };
        if (!waits_for(KEVENT_POLL, [counter] {
                const std::uint64_t one = 1;
                static_cast<void>(!::write(counter, &one, sizeof one));
            }))
            return 93;
        if (!waits_for(KEVENT_UNOTIFY, [&] {
                ukevent one = user_event(5);
                kevent_ctl(number, KEVENT_CTL_READY, 1, &one);
            }))
            return 94;
        return 7;
    });
    CHECK(result == 7);
}
