// sources.cpp: the types SOCKET, POLL, PIPE, TIMER and UNOTIFY.
#include "tests/kevent/kevent_fixture.hpp"
#include "tests/support/loopback_listener.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include <sys/eventfd.h>
#include <sys/resource.h>

using namespace kevent_test;

namespace {

ukevent timer(std::uint32_t ms, std::uint32_t req_flags = 0) {
    ukevent made = record(KEVENT_TIMER, static_cast<int>(ms / 1000), KEVENT_TIMER_FIRED, req_flags);
    made.id.raw[1] = ms % 1000 * 1'000'000;
    return made;
}

// The number of waiting connections once it reaches `wanted`. The kernel may handle the last packet
// of a handshake after connect(2) has returned; each complete one is an event, or part of one.
std::uint32_t waiting_connections(queue& q, std::uint32_t wanted) {
    std::uint32_t waiting = 0;
    while (waiting < wanted) waiting = q.get_one().ret_data[1];
    return waiting;
}

}  // namespace

TEST_CASE("a closed peer is reported as readable", "[kevent][socket][K-099]") {
    queue q;
    auto peers = connected_pair::sockets();
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));

    peers.close_peer();

    CHECK(is_done(q.get_one()));
}

TEST_CASE("a SEND-only registration reports a reset as broken, once",
          "[kevent][socket][K-099][K-100]") {
    queue q;
    auto [peer, local] = loopback_listener().connect(SOCK_NONBLOCK);
    const ukevent request =
        record(KEVENT_SOCKET, local.number(), KEVENT_SOCKET_SEND, KEVENT_REQ_ALWAYS_QUEUE);
    q.add(request);
    REQUIRE(is_done(q.get_one()));

    const linger at_once{1, 0};
    REQUIRE(::setsockopt(peer.number(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
    peer.reset();

    CHECK(is_broken(q.get_one()));
    CHECK(q.has_no_event());
    CHECK_FALSE(q.readable());
    q.remove(request);
}

TEST_CASE("the record reports the satisfied events of the mask", "[kevent][socket][K-101]") {
    queue q;
    const auto peers = connected_pair::sockets();
    const std::uint32_t both = KEVENT_SOCKET_RECV | KEVENT_SOCKET_SEND;
    q.add(record(KEVENT_SOCKET, peers.local(), both, KEVENT_REQ_ALWAYS_QUEUE));

    CHECK(q.get_one().ret_data[0] == KEVENT_SOCKET_SEND);
    peers.send_from_peer();
    CHECK(q.get_one().ret_data[0] == both);
}

TEST_CASE("a registration holds the connection until it is removed", "[kevent][socket][K-102]") {
    queue q;
    auto peers = connected_pair::sockets();
    const ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    q.add(request);

    peers.close_local();
    CHECK_FALSE(peers.peer_sees_end(20));
    peers.send_from_peer();
    CHECK(is_done(q.get_one()));
    q.remove(request);
    CHECK(peers.peer_sees_end());
}

TEST_CASE("a listening socket reports a connection", "[kevent][socket]") {
    queue q;
    kevring::fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    REQUIRE(::bind(listener.number(), nullptr, 0) != 0);
    const sa_family_t unnamed = AF_UNIX;  // the kernel chooses a name
    REQUIRE(::bind(listener.number(), reinterpret_cast<const sockaddr*>(&unnamed),
                   sizeof unnamed) == 0);
    REQUIRE(::listen(listener.number(), 4) == 0);
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    REQUIRE(::getsockname(listener.number(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    q.add(record(KEVENT_SOCKET, listener.number(), KEVENT_SOCKET_ACCEPT));

    kevring::fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(client.number(), reinterpret_cast<sockaddr*>(&address), size) == 0);

    CHECK(q.get_one().ret_data[0] == KEVENT_SOCKET_ACCEPT);
}

TEST_CASE("a listening TCP socket reports how many connections wait", "[kevent][socket]") {
    queue q;
    const loopback_listener listening;
    const int listener = listening.native().number();
    const ukevent request = record(KEVENT_SOCKET, listener, KEVENT_SOCKET_ACCEPT);
    q.add(request);

    const kevring::fd first = listening.dial();
    const kevring::fd second = listening.dial();
    CHECK(waiting_connections(q, 2) == 2);

    const kevring::fd third = listening.dial();
    CHECK(waiting_connections(q, 3) == 3);
    q.remove(request);
    ukevent again = request;
    REQUIRE(q.ctl(KEVENT_CTL_ADD, again) == 1);
    CHECK(again.ret_data[0] == KEVENT_SOCKET_ACCEPT);
    CHECK(again.ret_data[1] == 3);

    // In a connection this field of the kernel has another meaning.
    const kevring::fd local = listening.accept();
    for (const kevring::fd* each : {&first, &second, &third})  // one of them is its peer
        REQUIRE(::send(each->number(), "abc", 3, 0) == 3);
    q.add(record(KEVENT_SOCKET, local.number(), KEVENT_SOCKET_RECV | KEVENT_SOCKET_ACCEPT,
                 KEVENT_REQ_ALWAYS_QUEUE));
    CHECK(q.get_one().ret_data[1] == 0);
}

TEST_CASE("POLL implies no bits: a hang-up is reported only on request",
          "[kevent][poll][K-107][K-108]") {
    queue q;
    auto pipe = connected_pair::pipe();
    ukevent request = record(KEVENT_POLL, pipe.local(), KEVENT_POLL_POLLIN);
    q.add(request);

    pipe.close_peer();
    CHECK(q.has_no_event());

    request.event = KEVENT_POLL_POLLIN | KEVENT_POLL_POLLHUP;
    q.modify(request);
    const ukevent got = q.get_one();
    CHECK(is_done(got));
    CHECK(got.ret_data[0] == KEVENT_POLL_POLLHUP);
}

TEST_CASE("POLL watches anything that can be polled", "[kevent][poll][K-108]") {
    queue q;
    const kevring::fd counter(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    q.add(record(KEVENT_POLL, counter.number(), KEVENT_POLL_POLLIN));
    const std::uint64_t one = 1;
    std::uint64_t count = 0;

    REQUIRE(::write(counter.number(), &one, sizeof one) == sizeof one);
    CHECK(q.get_one().ret_data[0] == KEVENT_POLL_POLLIN);
    CHECK(q.has_no_event());

    REQUIRE(::write(counter.number(), &one, sizeof one) == sizeof one);
    REQUIRE(::read(counter.number(), &count, sizeof count) == sizeof count);
    CHECK(q.has_no_event());  // its last check

    ukevent answered =
        record(KEVENT_POLL, counter.number(), KEVENT_POLL_POLLIN | KEVENT_POLL_POLLOUT);
    answered.id.raw[1] = 1;
    CHECK(q.ctl(KEVENT_CTL_ADD, answered) == 1);
    CHECK(answered.ret_data[0] == KEVENT_POLL_POLLOUT);
}

TEST_CASE("a pipe reports data, then that its writers have closed", "[kevent][pipe][K-109]") {
    queue q;
    auto pipe = connected_pair::pipe();
    const ukevent request = record(KEVENT_PIPE, pipe.local(), KEVENT_SOCKET_RECV);
    q.add(request);
    pipe.send_from_peer();
    CHECK(is_done(q.get_one()));

    pipe.close_peer();
    CHECK(is_done(q.get_one()));
    pipe.drain_local();
    q.modify(request);
    CHECK(is_broken(q.get_one()));
    CHECK(q.has_no_event());
}

TEST_CASE("a pipe without readers is broken for its writer", "[kevent][pipe][K-109]") {
    queue q;
    auto pipe = connected_pair::pipe();
    const ukevent request =
        record(KEVENT_PIPE, pipe.peer(), KEVENT_SOCKET_SEND, KEVENT_REQ_ALWAYS_QUEUE);
    q.add(request);
    CHECK(is_done(q.get_one()));

    pipe.close_local();

    CHECK(is_broken(q.get_one()));
}

TEST_CASE("a timer fires each period, on its grid", "[kevent][timer][K-103]") {
    queue q;
    const auto begin = now();
    q.add(timer(10));

    for (int i = 1; i <= 10; ++i) {
        CHECK(is_done(q.get_one()));
        CHECK(now() - begin >= std::chrono::milliseconds(10 * i));
    }
}

TEST_CASE("a one-shot timer fires once", "[kevent][timer][K-103]") {
    queue q;
    q.add(timer(5, KEVENT_REQ_ONESHOT));

    CHECK(is_done(q.get_one()));
    ukevent got{};
    CHECK(kevent_get_events(q.number(), 1, 1, milliseconds(30), &got, 0) == 0);
    q.add(timer(5, KEVENT_REQ_ONESHOT));
}

TEST_CASE("expiries that are not collected are one record with their number",
          "[kevent][timer][K-104][K-106]") {
    queue q;
    const auto begin = now();
    q.add(timer(10));
    const ukevent first = q.get_one();
    CHECK(first.ret_data[1] >= 1);

    ukevent other = user_event(1);
    q.add(other);
    // The timer does not end this wait, which requests two records.
    std::vector<ukevent> got(4);
    REQUIRE(kevent_get_events(q.number(), 2, 4, milliseconds(50), got.data(), 0) == 1);
    const auto whole = std::chrono::duration_cast<std::chrono::milliseconds>(now() - begin);

    CHECK(got[0].ret_data[1] >= 4);
    CHECK(first.ret_data[1] + got[0].ret_data[1] <= static_cast<std::uint64_t>(whole.count()) / 10);
    CHECK(got[0].ret_data[0] - first.ret_data[0] == 10 * got[0].ret_data[1]);

    // It continues to fire, and a poll of the control descriptor shows it.
    pollfd control{q.number(), POLLIN, 0};
    CHECK(::poll(&control, 1, 60'000) == 1);
    CHECK_FALSE(q.has_no_event());
}

TEST_CASE("the period of a timer is its key, and not zero", "[kevent][timer][K-105]") {
    queue q;
    q.add(timer(1000));
    ukevent again = timer(1000);
    CHECK(q.ctl(KEVENT_CTL_ADD, again) == 1);
    CHECK(error_of(again) == -EEXIST);

    ukevent zero = timer(0);
    CHECK(q.ctl(KEVENT_CTL_ADD, zero) == 1);
    CHECK(error_of(zero) == -EINVAL);
    ukevent wild = timer(1);
    wild.id.raw[1] = 1'000'000'000;
    CHECK(q.ctl(KEVENT_CTL_ADD, wild) == 1);
    CHECK(error_of(wild) == -EINVAL);
    ukevent ages = record(KEVENT_TIMER, -1, 1);  // 136 years
    CHECK(q.ctl(KEVENT_CTL_ADD, ages) == 0);
    CHECK(q.has_no_event());
}

TEST_CASE("a timer that MODIFY fired keeps its grid", "[kevent][timer][K-046]") {
    queue q;
    const auto begin = now();
    q.add(timer(40));
    const auto added = now();
    q.modify(timer(40));
    const auto asked = now();
    const ukevent at_once = q.get_one();
    CHECK(at_once.ret_data[1] >= (asked - added) / std::chrono::milliseconds(40));
    CHECK(at_once.ret_data[1] <= (now() - begin) / std::chrono::milliseconds(40));

    const ukevent later = q.get_one();
    CHECK(now() - begin >= std::chrono::milliseconds(40));
    CHECK((later.ret_data[0] - at_once.ret_data[0]) % 40 == 0);
}

TEST_CASE("many timers fire in the order of their deadlines", "[kevent][timer]") {
    queue q;
    for (const std::uint32_t ms : {30u, 10u, 20u}) q.add(timer(ms, KEVENT_REQ_ONESHOT));

    // The order of the deadlines also depends on the time of each ADD. The record has the time of
    // the last expiry and the number of expiries, which yield the first deadline.
    std::vector<std::uint32_t> periods_ms;
    std::vector<std::int32_t> deadlines_ms;  // from the first on
    std::uint32_t first_ms = 0;
    while (periods_ms.size() < 3) {
        for (const ukevent& got : q.get()) {
            REQUIRE(got.ret_data[1] >= 1);
            periods_ms.push_back(got.id.raw[1] / 1'000'000);
            const std::uint32_t at_ms = got.ret_data[0] - (got.ret_data[1] - 1) * periods_ms.back();
            if (deadlines_ms.empty()) first_ms = at_ms;
            deadlines_ms.push_back(static_cast<std::int32_t>(at_ms - first_ms));
        }
    }

    CHECK(std::is_sorted(deadlines_ms.begin(), deadlines_ms.end()));
    std::sort(periods_ms.begin(), periods_ms.end());
    CHECK(periods_ms == std::vector<std::uint32_t>{10, 20, 30});
}

TEST_CASE("a POSIX timer with a last check reports no expiry that a record has counted",
          "[kevent][posix_timer]") {
    queue q;
    std::vector<ukevent> others;
    for (std::uint64_t id = 0; id < 200; ++id) others.push_back(user_event(id));
    REQUIRE(q.ctl(KEVENT_CTL_ADD, others) == 0);
    const itimerspec often{{0, 50'000}, {0, 50'000}};
    const long id = kevent_timer_create(q.number(), CLOCK_MONOTONIC, &often, 0, nullptr);
    REQUIRE(id > 0);
    ukevent timer = record(KEVENT_POSIX_TIMER, 0, KEVENT_MASK_ALL, KEVENT_REQ_LAST_CHECK);
    timer.id.raw_u64 = static_cast<std::uint64_t>(id);
    int empty_count = 0;
    for (int i = 0; i < 300; ++i) {
        // It may expire while a call collects the others, which come first, and is counted then.
        REQUIRE(q.ctl(KEVENT_CTL_READY, others) == 200);
        q.modify(timer);
        CHECK(q.get(201, 256).size() == 201);
        if (q.get_one().ret_data[0] == 0) ++empty_count;
    }
    CHECK(empty_count == 0);
}

TEST_CASE("a timer that is removed does not make its queue readable", "[kevent][timer][K-122]") {
    queue q;
    q.add(timer(2));
    pollfd control{q.number(), POLLIN, 0};
    CHECK(::poll(&control, 1, 60'000) == 1);

    q.remove(timer(2));

    CHECK(q.has_no_event());
    CHECK(::poll(&control, 1, 10) == 0);
}

TEST_CASE("a wait that continues after a last check returns the next timer",
          "[kevent][timer][K-103]") {
    // Timers that are due in the same 2^24 ns share a slot, and wake the queue once without an
    // event when the first of them is removed. Here that wake-up comes while the call tests a
    // record that it drops.
    const std::int64_t together_ns = std::int64_t{1} << 24;
    const std::int64_t now_ns = now().time_since_epoch() / std::chrono::nanoseconds(1);
    const std::int64_t begin_ns = together_ns - now_ns % together_ns + together_ns;
    const auto due_in = [](std::int64_t ns) {
        ukevent made = record(KEVENT_TIMER, 0, KEVENT_TIMER_FIRED, KEVENT_REQ_ONESHOT);
        made.id.raw[1] = static_cast<std::uint32_t>(ns);
        return made;
    };
    const ukevent first = due_in(begin_ns + 1'000'000);
    const ukevent second = due_in(begin_ns + 12'000'000);
    const bool by_ring = GENERATE(false, true);
    queue q(4);
    const auto quiet = connected_pair::sockets();
    const ukevent nothing =
        record(KEVENT_SOCKET, quiet.local(), KEVENT_SOCKET_RECV, KEVENT_REQ_LAST_CHECK);
    q.add(nothing);
    q.add(first);
    q.add(second);
    q.remove(first);
    pollfd control{q.number(), POLLIN, 0};
    REQUIRE(::poll(&control, 1, 60'000) == 1);
    REQUIRE(q.ready(nothing) == 1);

    const std::uint64_t got = by_ring ? (q.wait(3, 0, test_timeout), q.ring().event[0].id.raw_u64)
                                      : q.get(1, 3)[0].id.raw_u64;
    CHECK(got == second.id.raw_u64);
}

TEST_CASE("a timer is refused when no descriptor is left", "[kevent][timer]") {
    CHECK(in_child([] {
              const int q = kevent_init(nullptr, 0, KEVENT_INIT_NO_THREAD);
              const int lowest_free = ::dup(q);
              ::close(lowest_free);
              rlimit tight{};
              ::getrlimit(RLIMIT_NOFILE, &tight);
              tight.rlim_cur = static_cast<rlim_t>(lowest_free);
              ::setrlimit(RLIMIT_NOFILE, &tight);
              ukevent one = timer(1);
              const bool refused = kevent_ctl(q, KEVENT_CTL_ADD, 1, &one) == 1 && is_broken(one) &&
                                   error_of(one) == -EMFILE;
              tight.rlim_cur = tight.rlim_max;
              ::setrlimit(RLIMIT_NOFILE, &tight);
              ukevent again = timer(1);
              const bool added = kevent_ctl(q, KEVENT_CTL_ADD, 1, &again) == 0;
              ukevent got{};
              return refused && added && kevent_get_events(q, 1, 1, test_timeout, &got, 0) == 1 ? 0
                                                                                                : 1;
          }) == 0);
}

TEST_CASE("a call that does not wait finds a timer that is due among many",
          "[kevent][timer][K-063]") {
    // The queue moves this many timers of one deadline in several steps before the first fires.
    constexpr unsigned count = 3000;
    queue q;
    std::vector<ukevent> all(count,
                             record(KEVENT_TIMER, 0, KEVENT_TIMER_FIRED, KEVENT_REQ_ONESHOT));
    for (unsigned i = 0; i < count; ++i) all[i].id.raw[1] = 60'000'000 + i;
    REQUIRE(q.ctl(KEVENT_CTL_ADD, all) == 0);
    const auto all_due = now() + std::chrono::milliseconds(61);
    while (now() < all_due) std::this_thread::yield();

    CHECK_FALSE(q.has_no_event());
}

TEST_CASE("a user event is silent when added, unless ALWAYS_QUEUE is set",
          "[kevent][unotify][K-112]") {
    queue q;
    q.add(user_event(1));
    CHECK(q.has_no_event());
    q.add(user_event(2, KEVENT_REQ_ALWAYS_QUEUE));
    CHECK(q.get_one().id.raw_u64 == 2);
    q.add(user_event(3, KEVENT_REQ_READY));
    CHECK(q.get_one().id.raw_u64 == 3);
    q.modify(user_event(1));
    CHECK(q.get_one().id.raw_u64 == 1);
    CHECK(q.has_no_event());
}

TEST_CASE("a user event reports how often it was fired", "[kevent][unotify][K-048]") {
    queue q;
    q.add(user_event(1));
    for (int i = 0; i < 3; ++i) CHECK(q.ready(user_event(1)) == 1);
    CHECK(q.get_one().ret_data[1] == 3);

    CHECK(q.ready(user_event(1)) == 1);
    CHECK(q.get_one().ret_data[1] == 1);
    q.modify(user_event(1));
    CHECK(q.get_one().ret_data[1] == 0);
}
