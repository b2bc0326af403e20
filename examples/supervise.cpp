// supervise.cpp: runs a command, and runs it again when it fails, until it succeeds or a signal
// comes.
//
//   supervise COMMAND ARGUMENT...
#include <kevring/kevent/awaitables.hpp>
#include <kevring/runtime/run.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <system_error>

#include <signal.h>
#include <spawn.h>
#include <unistd.h>

namespace {

using namespace std::chrono_literals;
constexpr auto pause_before_restart = 100ms;

pid_t start(char** command) {
    posix_spawnattr_t attributes;  // the command gets its signals as any program does
    ::posix_spawnattr_init(&attributes);
    sigset_t none;
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    pid_t child = 0;
    const int failure = ::posix_spawnp(&child, command[0], nullptr, &attributes, command, environ);
    ::posix_spawnattr_destroy(&attributes);
    if (failure != 0) throw std::system_error(failure, std::system_category(), command[0]);
    return child;
}

struct state {
    pid_t child = 0;  // 0: none runs
    bool ending = false;
};

kevring::task<void> keep_running(char** command, state& now) {
    while (!now.ending) {
        now.child = start(command);
        std::printf("started %d\n", static_cast<int>(now.child));
        auto got = co_await kevring::wait_for_exit(now.child);
        const auto ended = kevring::value_or_throw(std::move(got), "wait_for_exit");
        now.child = 0;
        std::printf("ended %d\n", ended.code);
        if (ended.success()) co_return;
        const auto paused = co_await kevring::timer(pause_before_restart);
        if (!paused) co_return;  // the scope was stopped
    }
}

kevring::task<void> hand_signals_on(state& now) {
    auto signals = kevring::value_or_throw(kevring::signal_stream::open({SIGINT, SIGTERM}), "");
    while (true) {
        const auto asked = co_await signals.next();
        if (!asked) co_return;  // the scope was stopped: nothing runs any more
        now.ending = true;
        if (now.child != 0) ::kill(now.child, asked->number);
    }
}

kevring::task<void> supervise(char** command) {
    state now;
    auto body = [&](kevring::task_scope& control) -> kevring::task<void> {
        control.spawn(hand_signals_on(now));
        co_await keep_running(command, now);
        control.request_stop();
    };
    co_await kevring::in_scope(body);
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc < 2) {
        std::fputs("usage: supervise COMMAND ARGUMENT...\n", stderr);
        return 2;
    }
    std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
    kevring::run(supervise(argv + 1));
} catch (const std::exception& failure) {
    std::fprintf(stderr, "supervise: %s\n", failure.what());
    return 1;
}
