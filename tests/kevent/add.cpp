// add.cpp: kevent_init, the checks that all calls have in common, and KEVENT_CTL_ADD.
#include "tests/kevent/kevent_fixture.hpp"

#include <limits>
#include <utility>

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

using namespace kevent_test;

TEST_CASE("a queue without a ring has events, but nothing to wait for in a ring",
          "[kevent][queue][K-009]") {
    queue q;
    ukevent got{};

    CHECK(kevent_get_events(q.number(), 1, 1, no_wait, &got, 0) == 0);
    CHECK(q.wait(1, 0) == -EINVAL);
    CHECK(q.commit(0, 0) == 0);
    CHECK(q.commit(99, 99) == 0);
}

TEST_CASE("a ring has memory and at least two slots", "[kevent][queue][K-010]") {
    std::vector<std::uint64_t> memory(1 + 8 * 5);
    auto* const ring = reinterpret_cast<kevent_ring*>(memory.data());

    CHECK(kevent_init(ring, 0, 0) == -EINVAL);
    CHECK(kevent_init(nullptr, 8, 0) == -EINVAL);
    CHECK(kevent_init(ring, 1, 0) == -EINVAL);
    const int two = kevent_init(ring, 2, 0);
    CHECK(two >= 0);
    ::close(two);
}

TEST_CASE("a new ring begins at 0, whatever its memory held", "[kevent][queue][K-011]") {
    std::vector<std::uint64_t> memory(1 + 4 * 5, ~std::uint64_t{0});
    auto* const ring = reinterpret_cast<kevent_ring*>(memory.data());

    const int number = kevent_init(ring, 4, 0);

    CHECK(ring->ring_kidx == 0);
    CHECK(ring->ring_over == 0);
    ::close(number);
}

TEST_CASE("undefined flags are refused", "[kevent][queue][K-012][K-068]") {
    queue q(4);
    ukevent got{};

    CHECK(kevent_init(nullptr, 0, 1) == -EINVAL);
    CHECK(kevent_get_events(q.number(), 1, 1, no_wait, &got, 2) == -EINVAL);
    CHECK(kevent_wait(q.number(), 1, 0, no_wait, 0x80000000u) == -EINVAL);
}

TEST_CASE("kevent_init fails when no descriptor is left", "[kevent][queue][K-013]") {
    const auto is_so = [] {
        ::close_range(STDERR_FILENO + 1, ~0u, 0);  // no number in use above a free one
        const int lowest_free = ::eventfd(0, 0);
        ::close(lowest_free);
        const auto limit = [&](unsigned more) {
            rlimit tight{};
            if (::getrlimit(RLIMIT_NOFILE, &tight) != 0) return false;
            tight.rlim_cur = static_cast<rlim_t>(lowest_free) + more;
            return ::setrlimit(RLIMIT_NOFILE, &tight) == 0;
        };
        // Makes a queue and releases it.
        const auto init = [] {
            const int number = kevent_init(nullptr, 0, KEVENT_INIT_NO_THREAD);
            if (number < 0) return number;
            ::close(number);
            return kevent_commit(number, 0, 0) == -EBADF ? 0 : -EBADF;
        };

        if (!limit(0) || init() != -EMFILE) return 1;
        // The same while only some of the descriptors of a queue are available.
        int answer = -EMFILE;
        for (unsigned more = 1; more < 12; ++more) {
            if (!limit(more)) return 2;
            const int before = std::exchange(answer, init());
            if (answer != 0 && (answer != -EMFILE || before == 0)) return 3;
        }
        if (answer != 0) return 4;
        return ::eventfd(0, 0) == lowest_free ? 0 : 5;  // no descriptor stayed open
    };
    CHECK(in_child(is_so) == 0);
}

TEST_CASE("closed descriptors and descriptors of other kinds are no queues",
          "[kevent][queue][K-014][K-015]") {
    queue q(4);
    ukevent one = user_event(1);
    const int number = q.number();
    const auto all_calls = [&](int expected) {
        CHECK(kevent_ctl(number, KEVENT_CTL_ADD, 1, &one) == expected);
        CHECK(kevent_ctl(number, KEVENT_CTL_ADD, 0, nullptr) == expected);
        CHECK(kevent_get_events(number, 1, 1, no_wait, &one, 0) == expected);
        CHECK(kevent_wait(number, 1, 0, no_wait, 0) == expected);
        CHECK(kevent_commit(number, 0, 0) == expected);
    };

    q.close();
    all_calls(-EBADF);

    // The number refers to another file now.
    const int stranger = ::eventfd(0, EFD_CLOEXEC);
    if (stranger != number) {
        REQUIRE(::dup2(stranger, number) == number);
        ::close(stranger);
    }
    all_calls(-EINVAL);
    ::close(number);
    all_calls(-EBADF);

    CHECK(kevent_commit(-1, 0, 0) == -EBADF);
    CHECK(kevent_commit(1 << 30, 0, 0) == -EBADF);
    CHECK(kevent_commit(0, 0, 0) == -EINVAL);
}

TEST_CASE("a descriptor number that a new queue reuses refers to the new queue",
          "[kevent][queue]") {
    // The kernel returns the lowest free number: the one that was just closed, unless queues of
    // earlier tests are released at the same time.
    for (int attempt = 1;; ++attempt) {
        REQUIRE(attempt <= 1000);
        queue first;
        const int number = first.number();
        first.add(user_event(1));
        first.close();
        queue second;
        if (second.number() != number) continue;

        ukevent unknown = user_event(1);
        CHECK(kevent_ctl(number, KEVENT_CTL_REMOVE, 1, &unknown) == -EINVAL);
        second.add(user_event(1));
        return;
    }
}

TEST_CASE("a queue is found after a program has replaced its descriptor flags", "[kevent][queue]") {
    queue q;
    REQUIRE(::fcntl(q.number(), F_SETFL, O_NONBLOCK) == 0);
    ukevent got{};

    CHECK(kevent_get_events(q.number(), 1, 1, forever, &got, 0) == 0);
    CHECK(kevent_get_events(q.number(), 1, 1, forever, &got, 0) == 0);
    REQUIRE(::fcntl(q.number(), F_SETFL, 0) == 0);
    CHECK(kevent_get_events(q.number(), 1, 1, milliseconds(1), &got, 0) == 0);
}

TEST_CASE("a command that does not exist is refused", "[kevent][queue][K-016]") {
    queue q;
    ukevent one = user_event(1);

    CHECK(kevent_ctl(q.number(), 4, 1, &one) == -EINVAL);
    CHECK(kevent_ctl(q.number(), std::numeric_limits<unsigned>::max(), 0, nullptr) == -EINVAL);
}

TEST_CASE("ADD of no records returns 0", "[kevent][add][K-017]") {
    queue q;

    CHECK(kevent_ctl(q.number(), KEVENT_CTL_ADD, 0, nullptr) == 0);
}

TEST_CASE("a socket that is idle when added is reported when a byte comes",
          "[kevent][add][socket][K-018]") {
    queue q;
    const auto peers = connected_pair::sockets();
    ukevent one = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);

    CHECK(q.ctl(KEVENT_CTL_ADD, one) == 0);
    CHECK(q.has_no_event());
    peers.send_from_peer();

    CHECK(is_done(q.get_one()));
}

TEST_CASE("a request that is ready when added is answered, and is not registered",
          "[kevent][add][socket][K-019][K-020]") {
    queue q;
    const auto peers = connected_pair::sockets();
    peers.send_from_peer();
    const ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    q.add(user_event(1));

    ukevent one = request;
    CHECK(q.ctl(KEVENT_CTL_ADD, one) == 1);
    CHECK(is_done(one));

    ukevent again = request;
    CHECK(q.ctl(KEVENT_CTL_ADD, again) == 1);
    CHECK(is_done(again));
    ukevent removed = request;
    CHECK(q.ctl(KEVENT_CTL_REMOVE, removed) == 0);
    CHECK(is_broken(removed));
}

TEST_CASE("with ALWAYS_QUEUE a request that is ready when added is queued and stays",
          "[kevent][add][socket][K-021]") {
    queue q;
    const auto peers = connected_pair::sockets();
    peers.send_from_peer();
    const ukevent request =
        record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV, KEVENT_REQ_ALWAYS_QUEUE);

    ukevent one = request;
    CHECK(q.ctl(KEVENT_CTL_ADD, one) == 0);

    CHECK(is_done(q.get_one()));
    q.remove(request);
}

TEST_CASE("answers are packed to the front of the array, in order", "[kevent][add][K-022][K-023]") {
    queue q;
    const auto idle = connected_pair::sockets();
    const auto busy = connected_pair::sockets();
    busy.send_from_peer();
    const auto idle_record = [&](std::uint32_t tag) {
        ukevent made = record(KEVENT_SOCKET, idle.local(), KEVENT_SOCKET_RECV);
        made.id.raw[1] = tag;
        return made;
    };
    const ukevent failing = record(KEVENT_SOCKET, 1 << 20, KEVENT_SOCKET_RECV);
    const ukevent ready = record(KEVENT_SOCKET, busy.local(), KEVENT_SOCKET_RECV);

    SECTION("five entries") {
        std::vector<ukevent> records{idle_record(1), failing, idle_record(2), ready,
                                     idle_record(3)};
        CHECK(q.ctl(KEVENT_CTL_ADD, records) == 2);
        CHECK(records[0].id.raw_u64 == failing.id.raw_u64);
        CHECK(is_broken(records[0]));
        CHECK(records[1].id.raw_u64 == ready.id.raw_u64);
        CHECK(is_done(records[1]));
        CHECK(records[4].id.raw[1] == 3);
    }
    SECTION("three entries") {
        std::vector<ukevent> records{idle_record(1), failing, ready};
        CHECK(q.ctl(KEVENT_CTL_ADD, records) == 2);
        CHECK(is_broken(records[0]));
        CHECK(is_done(records[1]));
    }
}

TEST_CASE("a key is registered once, and its type is part of it",
          "[kevent][add][K-024][K-025][K-026]") {
    queue q;
    const auto peers = connected_pair::sockets();
    const ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    q.add(request);

    ukevent again = request;
    CHECK(q.ctl(KEVENT_CTL_ADD, again) == 1);
    CHECK(is_broken(again));
    CHECK(error_of(again) == -EEXIST);

    ukevent other_type = record(KEVENT_POLL, peers.local(), KEVENT_POLL_POLLPRI);
    CHECK(q.ctl(KEVENT_CTL_ADD, other_type) == 0);
    ukevent other_id = request;
    other_id.id.raw[1] = 1;
    CHECK(q.ctl(KEVENT_CTL_ADD, other_id) == 0);

    peers.send_from_peer();
    CHECK(is_done(q.get().at(0)));
}

TEST_CASE("a registered key is reported before a closed descriptor", "[kevent][add][K-027]") {
    queue q;
    auto peers = connected_pair::sockets();
    const ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    q.add(request);
    peers.close_local();

    ukevent again = request;
    CHECK(q.ctl(KEVENT_CTL_ADD, again) == 1);
    CHECK(error_of(again) == -EEXIST);
}

TEST_CASE("each type refuses descriptors that it cannot watch", "[kevent][add][K-028][K-029]") {
    queue q;
    const auto sockets = connected_pair::sockets();
    const auto pipe = connected_pair::pipe();
    const kevring::fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    const kevring::fd directory(::open("/", O_RDONLY | O_CLOEXEC));
    const auto failure = [&](std::uint32_t type, int number) {
        ukevent one = record(type, number, 1);
        REQUIRE(q.ctl(KEVENT_CTL_ADD, one) == 1);
        CHECK(is_broken(one));
        return error_of(one);
    };

    for (const std::uint32_t type : {KEVENT_SOCKET, KEVENT_POLL, KEVENT_PIPE}) {
        CHECK(failure(type, 1 << 20) == -EBADF);
        CHECK(failure(type, -1) == -EBADF);
    }
    CHECK(failure(KEVENT_SOCKET, pipe.local()) == -ENOTSOCK);
    CHECK(failure(KEVENT_PIPE, sockets.local()) == -EINVAL);
    CHECK(failure(KEVENT_POLL, file.number()) == -EINVAL);
    CHECK(failure(KEVENT_POLL, directory.number()) == -EINVAL);
}

TEST_CASE("ADD refuses types that it cannot register", "[kevent][add][K-030]") {
    queue q;

    for (const std::uint32_t type : {200u, 0xffffffffu, 11u, unsigned{KEVENT_POSIX_TIMER},
                                     unsigned{KEVENT_AIO}, unsigned{KEVENT_NAIO}}) {
        ukevent one = record(type, 0, 1);
        REQUIRE(q.ctl(KEVENT_CTL_ADD, one) == 1);
        CHECK(is_broken(one));
        CHECK(error_of(one) == -ENOSYS);
    }
}

TEST_CASE("the user field comes back as it was given", "[kevent][add][K-031]") {
    queue q;
    ukevent one = user_event(7);
    one.user[0] = 0xdeadbeef;
    one.user[1] = 0x01234567;
    q.add(one);

    for (int round = 0; round < 3; ++round) {
        CHECK(q.ready(user_event(7)) == 1);
        const ukevent got = q.get_one();
        CHECK(got.user[0] == 0xdeadbeef);
        CHECK(got.user[1] == 0x01234567);
        CHECK(got.id.raw_u64 == 7);
    }
}

TEST_CASE("the result fields of a request are ignored", "[kevent][add][K-032]") {
    queue q;
    const auto peers = connected_pair::sockets();
    ukevent one = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    one.ret_flags = 0xffffffff;
    one.ret_data[0] = one.ret_data[1] = 0xffffffff;
    q.add(one);
    peers.send_from_peer();

    const ukevent got = q.get_one();
    CHECK(got.ret_flags == KEVENT_RET_DONE);
    CHECK(got.ret_data[0] == KEVENT_SOCKET_RECV);
    CHECK(got.ret_data[1] == 0);

    ukevent answered = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    answered.id.raw[1] = 1;
    answered.ret_flags = 0xffffffff;
    answered.ret_data[1] = 99;
    CHECK(q.ctl(KEVENT_CTL_ADD, answered) == 1);
    CHECK(answered.ret_flags == KEVENT_RET_DONE);
    CHECK(answered.ret_data[1] == 0);
}

TEST_CASE("READY in a request makes an idle socket ready when added", "[kevent][add][K-033]") {
    queue q;
    const auto peers = connected_pair::sockets();
    ukevent one = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV, KEVENT_REQ_READY);

    CHECK(q.ctl(KEVENT_CTL_ADD, one) == 0);
    CHECK(is_done(q.get_one()));

    ukevent closed = record(KEVENT_SOCKET, 1 << 20, KEVENT_SOCKET_RECV, KEVENT_REQ_READY);
    CHECK(q.ctl(KEVENT_CTL_ADD, closed) == 1);
    CHECK(error_of(closed) == -EBADF);
}

TEST_CASE("a null array is refused, and nothing is registered", "[kevent][add][K-034]") {
    queue q;

    for (const unsigned command : {0u, 1u, 2u, 3u})
        CHECK(kevent_ctl(q.number(), command, 1, nullptr) == -EFAULT);
    CHECK(kevent_get_events(q.number(), 1, 1, no_wait, nullptr, 0) == -EFAULT);
    CHECK(kevent_get_events(q.number(), 0, 0, no_wait, nullptr, 0) == 0);

    ukevent one = user_event(0);
    CHECK(q.ctl(KEVENT_CTL_REMOVE, one) == -EINVAL);
}

TEST_CASE("a queue accepts 100 000 registrations", "[kevent][add][K-035]") {
    queue q;
    std::vector<ukevent> records;
    for (std::uint64_t id = 0; id < 100'000; ++id) records.push_back(user_event(id << 16));

    CHECK(q.ctl(KEVENT_CTL_ADD, records) == 0);
    CHECK(q.ready(user_event(77'777ull << 16)) == 1);
    CHECK(q.get_one().id.raw_u64 == 77'777ull << 16);
    CHECK(q.ctl(KEVENT_CTL_REMOVE, records) == 0);
    ukevent none = user_event(0);
    CHECK(q.ctl(KEVENT_CTL_REMOVE, none) == -EINVAL);
}

TEST_CASE("ADD reports a socket that is broken", "[kevent][add][socket]") {
    queue q;
    auto peers = connected_pair::sockets();
    peers.close_peer();
    ukevent one = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_SEND);

    CHECK(q.ctl(KEVENT_CTL_ADD, one) == 1);
    CHECK(is_broken(one));
    CHECK(error_of(one) == -EPIPE);
}
