// system_sources.cpp: the types SIGNAL, POSIX_TIMER and PROCESS.
#include "tests/kevent/kevent_fixture.hpp"

#include <csignal>

#include <sys/timerfd.h>
#include <sys/wait.h>

using namespace kevent_test;

namespace {

ukevent signal_record(std::uint64_t number, std::uint64_t how = KEVENT_SIGNAL_NOMASK) {
    ukevent made = record(KEVENT_SIGNAL, 0, KEVENT_SIGNAL_DELIVERY);
    made.id.raw_u64 = number | how;
    return made;
}

int handler_runs = 0;

}  // namespace

TEST_CASE("a signal comes as a record, and its handler does not run", "[kevent][signal][K-110]") {
    queue q;
    struct sigaction handle{};
    struct sigaction before{};
    handle.sa_handler = [](int) { ++handler_runs; };
    REQUIRE(::sigaction(SIGUSR1, &handle, &before) == 0);
    q.add(signal_record(SIGUSR1));
    CHECK(q.has_no_event());

    REQUIRE(::kill(::getpid(), SIGUSR1) == 0);

    const ukevent got = q.get_one();
    CHECK(is_done(got));
    CHECK(got.ret_data[0] == static_cast<std::uint32_t>(::getpid()));
    CHECK(handler_runs == 0);
    CHECK(q.has_no_event());
    ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("each queued signal is a record, with its value", "[kevent][signal]") {
    queue q;
    const int number = SIGRTMIN + 3;
    q.add(signal_record(static_cast<std::uint64_t>(number)));
    for (int value = 1; value <= 3; ++value)
        REQUIRE(::sigqueue(::getpid(), number, sigval{value}) == 0);

    for (std::uint32_t value = 1; value <= 3; ++value)
        CHECK(q.get(1, 1).at(0).ret_data[1] == value);
    CHECK(q.has_no_event());
}

TEST_CASE("a signal that another queue has taken is no record", "[kevent][signal]") {
    queue first;
    queue second;
    first.add(signal_record(SIGUSR2));
    second.add(signal_record(SIGUSR2));
    REQUIRE(::kill(::getpid(), SIGUSR2) == 0);

    CHECK(is_done(first.get_one()));
    CHECK(second.has_no_event());
    CHECK_FALSE(second.readable());

    CHECK(second.ready(signal_record(SIGUSR2)) == 1);
    CHECK(is_done(second.get_one()));
}

TEST_CASE("a record that READY asked for comes although another takes the signal",
          "[kevent][signal]") {
    queue q;
    ukevent request = signal_record(SIGUSR2);
    q.add(request);
    REQUIRE(::kill(::getpid(), SIGUSR2) == 0);
    request.event = KEVENT_MASK_EMPTY;
    q.modify(request);  // a registration that the old mask made ready stays ready
    CHECK(q.ready(request) == 1);

    sigset_t only;
    ::sigemptyset(&only);
    ::sigaddset(&only, SIGUSR2);
    REQUIRE(::sigtimedwait(&only, nullptr, &no_wait) == SIGUSR2);

    const ukevent got = q.get_one();
    CHECK(is_done(got));
    CHECK(got.ret_data[0] == 0);
    CHECK(q.has_no_event());
}

TEST_CASE("without a mask neither signals nor ends of processes are reported",
          "[kevent][signal][process]") {
    queue q;
    ukevent signals = signal_record(SIGUSR2);
    signals.event = KEVENT_MASK_EMPTY;
    q.add(signals);
    REQUIRE(::kill(::getpid(), SIGUSR2) == 0);
    q.modify(signals);
    CHECK(q.has_no_event());
    signals.event = KEVENT_SIGNAL_DELIVERY;
    q.modify(signals);
    CHECK(q.get_one().type == KEVENT_SIGNAL);

    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) ::_exit(0);
    siginfo_t info{};
    REQUIRE(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT) == 0);
    q.add(record(KEVENT_PROCESS, child, KEVENT_MASK_EMPTY));
    CHECK(q.has_no_event());
    CHECK(::waitpid(child, nullptr, 0) == child);
}

TEST_CASE("signals that cannot be taken are refused", "[kevent][signal][K-111]") {
    queue q;
    const auto failure = [&](ukevent one) {
        REQUIRE(q.ctl(KEVENT_CTL_ADD, one) == 1);
        CHECK(is_broken(one));
        return error_of(one);
    };

    for (const std::uint64_t number : {0u, 65u, unsigned{SIGKILL}, unsigned{SIGSTOP}, 32u})
        CHECK(failure(signal_record(number)) == -EINVAL);
    CHECK(failure(signal_record(1ull << 40)) == -EINVAL);
    CHECK(failure(signal_record(SIGUSR1, 0)) == -EOPNOTSUPP);
    CHECK(failure(signal_record(0, 0)) == -EINVAL);
}

TEST_CASE("a timer of a clock is delivered once, with the program's pointer",
          "[kevent][posix_timer][K-113]") {
    queue q;
    int mine = 0;
    itimerspec when{};
    when.it_value.tv_nsec = 5'000'000;

    const long id = kevent_timer_create(q.number(), CLOCK_REALTIME, &when, 0, &mine);
    REQUIRE(id > 0);

    const ukevent got = q.get_one();
    CHECK(is_done(got));
    CHECK(got.type == KEVENT_POSIX_TIMER);
    CHECK(got.ptr == &mine);
    CHECK(got.id.raw_u64 == static_cast<std::uint64_t>(id));
    CHECK(got.ret_data[0] == 1);
    CHECK(q.has_no_event());
    ukevent gone = got;
    CHECK(q.ctl(KEVENT_CTL_REMOVE, gone) == -EINVAL);
}

TEST_CASE("a timer with an interval reports how often it expired", "[kevent][posix_timer]") {
    queue q;
    itimerspec when{};
    when.it_value.tv_nsec = 5'000'000;
    when.it_interval.tv_nsec = 5'000'000;
    const auto begin = now();
    const long id = kevent_timer_create(q.number(), CLOCK_BOOTTIME, &when, 0, nullptr);
    REQUIRE(id > 0);

    std::uint64_t expiries = q.get_one().ret_data[0];
    std::vector<ukevent> got(2);
    q.add(user_event(1));
    REQUIRE(kevent_get_events(q.number(), 2, 2, milliseconds(30), got.data(), 0) == 1);
    expiries += got[0].ret_data[0];

    CHECK(expiries >= 6);
    CHECK(expiries <= static_cast<std::uint64_t>((now() - begin) / std::chrono::milliseconds(5)));
    ukevent timer{};
    timer.id.raw_u64 = static_cast<std::uint64_t>(id);
    timer.type = KEVENT_POSIX_TIMER;
    q.remove(timer);
    CHECK(q.has_no_event());
}

TEST_CASE("MODIFY and READY fire a timer that has not expired", "[kevent][posix_timer]") {
    queue q;
    const itimerspec when{{60, 0}, {60, 0}};
    const long id = kevent_timer_create(q.number(), CLOCK_MONOTONIC, &when, 0, nullptr);
    REQUIRE(id > 0);
    ukevent key = record(KEVENT_POSIX_TIMER, 0, KEVENT_MASK_ALL);
    key.id.raw_u64 = static_cast<std::uint64_t>(id);
    CHECK(q.has_no_event());

    if (GENERATE(true, false)) {
        CHECK(q.modify(key).ret_flags == KEVENT_RET_DONE);
    } else {
        q.ready(key);
    }

    const ukevent got = q.get_one();
    CHECK(got.ret_flags == KEVENT_RET_DONE);
    CHECK(got.ret_data[0] == 0);
    CHECK(q.has_no_event());
}

TEST_CASE("kevent_timer_create returns the reason of its failure", "[kevent][posix_timer]") {
    queue q;
    itimerspec when{};

    CHECK(kevent_timer_create(q.number(), CLOCK_MONOTONIC, nullptr, 0, nullptr) == -EFAULT);
    CHECK(kevent_timer_create(q.number(), CLOCK_MONOTONIC, &when, 0, nullptr) == -EINVAL);
    when.it_value.tv_sec = 1;
    CHECK(kevent_timer_create(q.number(), CLOCK_THREAD_CPUTIME_ID, &when, 0, nullptr) == -EINVAL);
    CHECK(kevent_timer_create(q.number(), CLOCK_MONOTONIC, &when, -1, nullptr) == -EINVAL);
    CHECK(kevent_timer_create(0, CLOCK_MONOTONIC, &when, 0, nullptr) == -EINVAL);
    CHECK(kevent_timer_create(-1, CLOCK_MONOTONIC, &when, 0, nullptr) == -EBADF);
}

TEST_CASE("the end of a child comes with its status", "[kevent][process]") {
    queue q;
    const bool is_killed = GENERATE(false, true);
    auto gate = connected_pair::pipe();
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        char byte = 0;
        pollfd wait{gate.local(), POLLIN, 0};
        ::poll(&wait, 1, 60'000);
        static_cast<void>(!::read(gate.local(), &byte, 1));
        ::_exit(7);
    }
    q.add(record(KEVENT_PROCESS, child, KEVENT_PROCESS_EXIT));
    CHECK(q.has_no_event());

    if (is_killed) {
        ::kill(child, SIGKILL);
    } else {
        gate.send_from_peer();
    }

    const ukevent got = q.get_one();
    CHECK(is_done(got));
    CHECK(got.ret_data[0] == static_cast<std::uint32_t>(is_killed ? SIGKILL : 7));
    CHECK(got.ret_data[1] == static_cast<std::uint32_t>(is_killed ? CLD_KILLED : CLD_EXITED));
    int status = 0;
    CHECK(::waitpid(child, &status, 0) == child);  // the parent can still reap it

    ukevent gone = record(KEVENT_PROCESS, child, KEVENT_PROCESS_EXIT);
    gone.id.raw[1] = 1;
    CHECK(q.ctl(KEVENT_CTL_ADD, gone) == 1);
    CHECK((error_of(gone) == -ESRCH || error_of(gone) == -EINVAL));
}
