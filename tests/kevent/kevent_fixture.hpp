// kevent_fixture.hpp: the C interface for tests: a queue that closes itself, records made in one
// line, connected sockets and pipes, and threads under observation.
#pragma once

#include "tests/support/catch.hpp"

#include <kevring/kevent/kevent.h>
#include <kevring/kevent/ports/event_signal.hpp>
#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/fd.hpp>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace kevent_test {

inline constexpr timespec no_wait{0, 0};
inline constexpr timespec forever{-1, 0};
// A wait that must end by an event fails after this time instead of blocking forever; no machine
// is slow enough to reach it otherwise. A wait that must end without an event takes less than half.
inline constexpr timespec test_timeout{60, 0};
inline constexpr std::chrono::seconds half_of_test_timeout{30};

inline timespec milliseconds(long count) { return {count / 1000, count % 1000 * 1'000'000}; }

inline ukevent record(std::uint32_t type, int number, std::uint32_t event,
                      std::uint32_t req_flags = 0, void* user = nullptr) {
    ukevent made{};
    made.id.raw[0] = static_cast<std::uint32_t>(number);
    made.type = type;
    made.event = event;
    made.req_flags = req_flags;
    made.ptr = user;
    return made;
}

inline ukevent user_event(std::uint64_t id, std::uint32_t req_flags = 0) {
    ukevent made = record(KEVENT_UNOTIFY, 0, 1, req_flags);
    made.id.raw_u64 = id;
    return made;
}

/// True if the queues of this run belong to one thread each.
inline bool is_of_one_thread() {
    const char* const port = std::getenv("KEVRING_KEVENT_PORT");
    return port != nullptr && std::string_view(port) == "ring";
}

/// Allows as many descriptors as the hard limit does, and returns their number. Debian's soft limit is
/// 1024.
inline std::size_t raise_descriptor_limit() {
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
    return limit.rlim_cur;
}

/// True if an epoll set reports an event. The kernel interrupts a sleep of a thread that has used a ring
/// while the ring ends, even without a signal.
inline bool becomes_ready(const kevring::fd& set, epoll_event& event) {
    int count = -1;
    do {
        count = ::epoll_wait(set.number(), &event, 1, 60'000);
    } while (count < 0 && errno == EINTR);
    return count == 1;
}

/// A queue of the C interface.
class queue {
public:
    queue() : number_(kevent_init(nullptr, 0, 0)) { REQUIRE(number_ >= 0); }
    explicit queue(unsigned slot_count, unsigned flags = 0)
        : memory_(1 + slot_count * 5),
          number_(kevent_init(
              slot_count == 0 ? nullptr : reinterpret_cast<kevent_ring*>(memory_.data()),
              slot_count, flags)) {
        REQUIRE(number_ >= 0);
    }
    queue(const queue&) = delete;
    ~queue() { close(); }

    void close() {
        if (number_ >= 0) ::close(std::exchange(number_, -1));
    }
    int number() const { return number_; }
    kevent_ring& ring() { return *reinterpret_cast<kevent_ring*>(memory_.data()); }
    std::uint32_t ring_kidx() { return __atomic_load_n(&ring().ring_kidx, __ATOMIC_ACQUIRE); }
    std::uint32_t ring_over() { return __atomic_load_n(&ring().ring_over, __ATOMIC_ACQUIRE); }

    int ctl(unsigned command, std::vector<ukevent>& records) {
        return kevent_ctl(number_, command, static_cast<unsigned>(records.size()), records.data());
    }
    int ctl(unsigned command, ukevent& one) { return kevent_ctl(number_, command, 1, &one); }
    /// Adds a copy; fails the test if ADD answers it immediately.
    void add(ukevent one) { REQUIRE(kevent_ctl(number_, KEVENT_CTL_ADD, 1, &one) == 0); }
    int ready(ukevent one) { return kevent_ctl(number_, KEVENT_CTL_READY, 1, &one); }
    void remove(ukevent one) {
        REQUIRE(kevent_ctl(number_, KEVENT_CTL_REMOVE, 1, &one) == 0);
        CHECK(one.ret_flags == KEVENT_RET_DONE);
    }
    ukevent modify(ukevent one) {
        REQUIRE(kevent_ctl(number_, KEVENT_CTL_MODIFY, 1, &one) == 0);
        return one;
    }
    int release() { return kevent_ctl(number_, KEVENT_CTL_READY, 0, nullptr); }

    /// At least `min_count` records, or the failure of the test.
    std::vector<ukevent> get(unsigned min_count = 1, unsigned max_count = 64) {
        std::vector<ukevent> records(max_count);
        const int count =
            kevent_get_events(number_, min_count, max_count, test_timeout, records.data(), 0);
        REQUIRE(count >= static_cast<int>(min_count));
        records.resize(static_cast<std::size_t>(count));
        return records;
    }
    ukevent get_one() {
        const auto records = get();
        REQUIRE(records.size() == 1);
        return records[0];
    }
    bool has_no_event() {
        ukevent record{};
        return kevent_get_events(number_, 1, 1, no_wait, &record, 0) == 0;
    }
    int wait(unsigned count, unsigned old_uidx, timespec timeout = no_wait) {
        return kevent_wait(number_, count, old_uidx, timeout, 0);
    }
    int commit(unsigned new_uidx, unsigned over) { return kevent_commit(number_, new_uidx, over); }

    /// True if poll(2) reports that the control descriptor is readable.
    bool readable() const {
        pollfd now{number_, POLLIN | POLLOUT, 0};
        ::poll(&now, 1, 0);
        CHECK((now.revents & ~(POLLIN | POLLRDNORM)) == 0);
        return (now.revents & POLLIN) != 0;
    }
    /// The same where something is ready. Some kernels signal a queue of one thread late.
    bool becomes_readable() const {
        pollfd control{number_, POLLIN, 0};
        return readable() ||
               (kevring::detail::signals_event_late() && ::poll(&control, 1, 60'000) == 1);
    }
    /// The same where nothing is ready: a queue of one thread may be readable until the next call.
    bool stays_readable() {
        if (is_of_one_thread()) CHECK(has_no_event());
        return readable();
    }

private:
    std::vector<std::uint64_t> memory_;
    int number_;
};

/// Two connected descriptors; one receives the bytes that the other sends.
class connected_pair {
public:
    static connected_pair sockets() {
        int made[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, made) == 0);
        return connected_pair(made);
    }
    /// local() is the read end, peer() the write end.
    static connected_pair pipe() {
        int made[2];
        REQUIRE(::pipe2(made, O_CLOEXEC | O_NONBLOCK) == 0);
        return connected_pair(made);
    }

    int local() const { return local_.number(); }
    int peer() const { return peer_.number(); }
    void close_local() { local_.reset(); }
    void close_peer() { peer_.reset(); }
    void send_from_peer(std::size_t count = 1) const {
        const std::vector<char> bytes(count, 'x');
        // No assertion of the test framework: threads send, too.
        KEVRING_ASSERT(::write(peer(), bytes.data(), count) == static_cast<ssize_t>(count),
                       "test setup: a short write; use a peer with room");
    }
    /// Reads all available bytes, and returns their number.
    std::size_t drain_local() const {
        std::array<char, 4096> bytes;
        std::size_t total = 0;
        for (;;) {
            const ssize_t count = ::read(local(), bytes.data(), bytes.size());
            if (count <= 0) return total;
            total += static_cast<std::size_t>(count);
        }
    }
    /// True if the peer sees the end of the connection before the deadline.
    bool peer_sees_end(int timeout_ms = 60'000) const {
        pollfd now{peer(), POLLIN, 0};
        char byte = 0;
        return ::poll(&now, 1, timeout_ms) == 1 && ::read(peer(), &byte, 1) <= 0;
    }

private:
    explicit connected_pair(const int (&made)[2]) : local_(made[0]), peer_(made[1]) {}

    kevring::fd local_;
    kevring::fd peer_;
};

inline bool is_done(const ukevent& record) { return record.ret_flags == KEVENT_RET_DONE; }
inline bool is_broken(const ukevent& record) {
    return record.ret_flags == (KEVENT_RET_DONE | KEVENT_RET_BROKEN);
}
inline int error_of(const ukevent& record) { return static_cast<int>(record.ret_data[1]); }

/// Runs `wait` in a thread, and sends it SIGUSR1 until it returns. Returns its result.
template <class Wait>
int interrupted(Wait wait, int handler_flags = 0) {
    struct sigaction handle{};
    struct sigaction before{};
    handle.sa_handler = [](int) {};
    handle.sa_flags = handler_flags;
    REQUIRE(::sigaction(SIGUSR1, &handle, &before) == 0);
    int result = -1;
    std::atomic<bool> done{false};
    std::thread waiter([&] {
        // An earlier test may have left it blocked: SIGNAL of a queue does.
        sigset_t only;
        ::sigemptyset(&only);
        ::sigaddset(&only, SIGUSR1);
        ::pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
        result = wait();
        done = true;
    });
    while (!done) {  // the first ones may arrive before it waits
        ::pthread_kill(waiter.native_handle(), SIGUSR1);
        std::this_thread::yield();
    }
    waiter.join();
    ::sigaction(SIGUSR1, &before, nullptr);
    return result;
}

/// Runs `act` in a child and returns its result, 0 to 99. No thread of other queues runs in the
/// child, so no descriptor is released concurrently.
template <class Act>
int in_child(Act act) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(act());
    REQUIRE(child > 0);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/// A thread that a test watches from outside.
class observed_thread {
public:
    template <class Run>
    explicit observed_thread(Run run)
        : thread_([this, run] {
              id_ = static_cast<pid_t>(::syscall(SYS_gettid));
              run();
              ended_ = true;
          }) {}
    observed_thread(const observed_thread&) = delete;
    ~observed_thread() {
        if (thread_.joinable()) thread_.join();
    }

    void join() { thread_.join(); }
    bool ended() const { return ended_; }
    pthread_t native_handle() { return thread_.native_handle(); }
    pid_t id() const { return id_; }

    /// Returns once the thread sleeps in a waiting call: in ppoll(2) or on its semaphore. False: it
    /// has ended, or did not sleep before the deadline.
    bool sleeps_in_call() const {
        const auto end = std::chrono::steady_clock::now() + half_of_test_timeout;
        int times_seen = 0;
        while (!ended_ && std::chrono::steady_clock::now() < end) {
            // A thread that waits for the queue's mutex is in futex(2) too, but not for long.
            const long number = id_ == 0 ? -1 : system_call();
            if (number == SYS_ppoll) return true;
            times_seen = number == SYS_futex ? times_seen + 1 : 0;
            if (times_seen == 200) return true;
            std::this_thread::yield();
        }
        return false;
    }

private:
    // The number of the system call in which the thread sleeps; -1 while it runs.
    long system_call() const {
        std::ifstream file("/proc/self/task/" + std::to_string(id_) + "/syscall");
        long number = -1;
        return file >> number ? number : -1;
    }

    std::atomic<pid_t> id_{0};
    std::atomic<bool> ended_{false};
    std::thread thread_;
};

inline std::chrono::steady_clock::time_point now() { return std::chrono::steady_clock::now(); }

}  // namespace kevent_test
