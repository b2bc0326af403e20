// memory.cpp: every allocation of every call of kevent.h fails once. The call reports it, leaves no
// descriptor open, and succeeds when it is repeated.
#include "tests/kevent/kevent_fixture.hpp"
#include "tests/support/allocations.hpp"

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iterator>
#include <string>

#include <signal.h>

using namespace kevent_test;

namespace {

std::size_t open_descriptors() {
    const std::filesystem::directory_iterator numbers("/proc/self/fd");
    return static_cast<std::size_t>(std::distance(begin(numbers), end(numbers)));
}

// A queue without a releasing thread, so that descriptors can be counted.
class plain_queue {
public:
    plain_queue() : number(kevent_init(nullptr, 0, KEVENT_INIT_NO_THREAD)) {
        KEVRING_ASSERT(number >= 0, "no queue for the test; raise the limit of descriptors");
    }
    plain_queue(const plain_queue&) = delete;
    plain_queue& operator=(const plain_queue&) = delete;
    ~plain_queue() {
        ::close(number);
        ukevent unused{};
        kevent_ctl(number, KEVENT_CTL_ADD, 0, &unused);  // finds it closed
    }
    void fill(std::uint64_t count) const {
        for (std::uint64_t i = 0; i < count; ++i) {
            ukevent one = user_event(1000 + i);
            kevent_ctl(number, KEVENT_CTL_ADD, 1, &one);
        }
    }
    const int number;
};

// Calls `act` with each of its allocations failing in turn, on a queue with `count` registrations;
// 0, or the number of the failed check.
int try_all(std::uint64_t count, const std::function<long(int queue)>& act) {
    for (std::uint64_t good_ones = 0; good_ones < 1000; ++good_ones) {
        const plain_queue q;
        q.fill(count);
        const std::size_t before = open_descriptors();
        bool failed = false;
        long result = 0;
        {
            const failing_allocation one(good_ones);
            result = act(q.number);
            failed = one.has_failed();
        }
        if (failed && result < 0) {
            if (result != -ENOMEM) return 1;
            if (open_descriptors() != before) return 2;
            if (act(q.number) < 0) return 3;
        }
        if (!failed) return result < 0 ? 4 : 0;
    }
    return 5;
}

long add_one(int queue, ukevent one) {
    const int answers = kevent_ctl(queue, KEVENT_CTL_ADD, 1, &one);
    if (answers == 1 && (one.ret_flags & KEVENT_RET_BROKEN) != 0)
        return static_cast<std::int32_t>(one.ret_data[1]);
    return answers;
}

bool can_fail() {
    if (allocations_are_counted()) return true;
    WARN("not tried: a sanitizer brings its own operator new");
    return false;
}

}  // namespace

TEST_CASE("kevent_init reports each allocation that fails, and leaves no descriptor open",
          "[kevent][memory]") {
    if (!can_fail()) return;
    const unsigned flags = GENERATE(0u, unsigned{KEVENT_INIT_NO_THREAD});
    const int queues_before = GENERATE(0, 40);  // so that tables have to grow
    const auto act = [&] {
        for (int i = 0; i < queues_before; ++i)
            if (kevent_init(nullptr, 0, flags) < 0) return 1;
        for (std::uint64_t good_ones = 0; good_ones < 100; ++good_ones) {
            const std::size_t before = open_descriptors();
            bool failed = false;
            int number = 0;
            {
                const failing_allocation one(good_ones);
                number = kevent_init(nullptr, 0, flags);
                failed = one.has_failed();
            }
            if (number < 0 && number != -ENOMEM) return 2;
            if (number < 0 && open_descriptors() != before) return 3;
            if (!failed) return number >= 0 ? 0 : 4;
        }
        return 5;
    };
    CHECK(in_child(act) == 0);
}

TEST_CASE("ADD of each type reports each allocation that fails, and leaves no descriptor open",
          "[kevent][memory]") {
    if (!can_fail()) return;
    const std::uint64_t registrations = GENERATE(0u, 16u, 64u);
    const auto sockets = connected_pair::sockets();
    const auto pipe = connected_pair::pipe();
    ukevent timer = record(KEVENT_TIMER, 3600, KEVENT_TIMER_FIRED);
    const kevring::fd folder(::open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ukevent signal = record(KEVENT_SIGNAL, SIGUSR2, KEVENT_SIGNAL_DELIVERY);
    signal.id.raw_u64 |= KEVENT_SIGNAL_NOMASK;
    const std::vector<ukevent> requests{
        record(KEVENT_SOCKET, sockets.local(), KEVENT_SOCKET_RECV),
        record(KEVENT_POLL, sockets.local(), KEVENT_POLL_POLLIN),
        record(KEVENT_PIPE, pipe.local(), KEVENT_SOCKET_RECV),
        record(KEVENT_INODE, folder.number(), KEVENT_INODE_CREATE | KEVENT_INODE_NAMES),
        record(KEVENT_PROCESS, ::getpid(), KEVENT_PROCESS_EXIT),
        timer,
        signal,
        user_event(1)};
    for (const ukevent& request : requests) {
        CAPTURE(request.type, registrations);
        CHECK(in_child([&] {
                  return try_all(registrations, [&](int queue) { return add_one(queue, request); });
              }) == 0);
    }
}

TEST_CASE("calls that make a registration report each allocation that fails", "[kevent][memory]") {
    if (!can_fail()) return;
    const auto sockets = connected_pair::sockets();
    std::array<char, 8> buffer{};
    const itimerspec hour{{3600, 0}, {3600, 0}};
    SECTION("aio_recv") {
        CHECK(in_child([&] {
                  return try_all(0, [&](int queue) {
                      return aio_recv(queue, sockets.local(), buffer.data(), buffer.size(), 0);
                  });
              }) == 0);
    }
    SECTION("aio_send") {
        CHECK(in_child([&] {
                  return try_all(0, [&](int queue) {
                      return aio_send(queue, sockets.local(), buffer.data(), buffer.size(), 0);
                  });
              }) == 0);
    }
    SECTION("kevent_timer_create") {
        CHECK(in_child([&] {
                  return try_all(0, [&](int queue) {
                      return kevent_timer_create(queue, CLOCK_MONOTONIC, &hour, 0, nullptr);
                  });
              }) == 0);
    }
}

TEST_CASE("MODIFY, READY, REMOVE and the waiting calls survive each allocation that fails",
          "[kevent][memory]") {
    if (!can_fail()) return;
    constexpr std::size_t count = 8;
    std::vector<connected_pair> peers;
    std::vector<ukevent> requests;
    for (std::size_t i = 0; i < count; ++i) {
        peers.push_back(connected_pair::sockets());
        requests.push_back(record(KEVENT_SOCKET, peers.back().local(), KEVENT_SOCKET_RECV));
        peers.back().send_from_peer();
    }
    // A directory of this test: no other process creates a file in it.
    std::array<char, 32> name{"/tmp/kevring-memory-XXXXXX"};
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    const kevring::fd folder(::open(name.data(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const auto all = [&] {
        std::array<ukevent, 2 * count> got{};
        std::array<kevent_change, 4> changes{};
        bool failed = true;
        for (std::uint64_t good_ones = 0; failed && good_ones < 200; ++good_ones) {
            const plain_queue q;
            ukevent names =
                record(KEVENT_INODE, folder.number(), KEVENT_INODE_CREATE | KEVENT_INODE_NAMES);
            if (add_one(q.number, names) != 0) return 1;
            std::vector<ukevent> added = requests;
            for (ukevent& each : added) each.req_flags = KEVENT_REQ_ALWAYS_QUEUE;
            if (kevent_ctl(q.number, KEVENT_CTL_ADD, count, added.data()) != 0) return 2;
            const std::size_t before = open_descriptors();
            {
                const failing_allocation one(good_ones);
                std::array<ukevent, count> modified;
                std::copy(requests.begin(), requests.end(), modified.begin());
                if (kevent_ctl(q.number, KEVENT_CTL_MODIFY, count, modified.data()) != 0) return 3;
                if (kevent_ctl(q.number, KEVENT_CTL_READY, count, modified.data()) != count)
                    return 4;
                if (kevent_get_events(q.number, 1, 2 * count, no_wait, got.data(), 0) != count)
                    return 5;
                const int taken =
                    kevent_inode_changes(q.number, names.id, changes.size(), changes.data());
                if (taken < 0 && taken != -ENOMEM) return 6;
                failed = one.has_failed();
            }
            if (open_descriptors() != before) return 7;
            if (kevent_ctl(q.number, KEVENT_CTL_REMOVE, count, requests.data()) != 0) return 8;
        }
        return failed ? 9 : 0;
    };
    CHECK(in_child(all) == 0);
    CHECK(::rmdir(name.data()) == 0);
}

TEST_CASE("the thread that releases closed queues needs no memory", "[kevent][memory][close]") {
    if (!can_fail()) return;
    const auto act = [] {
        constexpr int queue_count = 40;
        std::vector<connected_pair> peers;
        for (int i = 0; i < queue_count; ++i) {
            peers.push_back(connected_pair::sockets());
            const int number = kevent_init(nullptr, 0, 0);
            if (number < 0 || add_one(number, record(KEVENT_SOCKET, peers.back().local(),
                                                     KEVENT_SOCKET_RECV)) != 0)
                return 1;
            peers.back().close_local();
        }
        const failing_threads others;
        for (int number = 3; number < 1000; ++number) {
            ukevent unused{};
            if (kevent_ctl(number, KEVENT_CTL_ADD, 0, &unused) == 0) ::close(number);
        }
        for (const connected_pair& each : peers)
            if (!each.peer_sees_end()) return 2;
        return 0;
    };
    CHECK(in_child(act) == 0);
}
