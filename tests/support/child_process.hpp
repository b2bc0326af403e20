// child_process.hpp: runs a function in a forked process, with a deadline.
#pragma once

#include "tests/support/timeout_multiplier.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <system_error>

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/// The end of a child process and its standard error.
struct child_outcome {
    int wait_status = 0;
    bool timed_out = false;  // it was killed at the deadline
    std::string error_text;

    bool exited(int code) const noexcept {
        return !timed_out && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == code;
    }
    /// True if an assertion of the library with this text ended the process.
    bool asserted(const std::string& text) const {
        return !timed_out && WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGABRT &&
               error_text.find("kevring: " + text + '\n') != std::string::npos;
    }
};

inline const std::chrono::seconds child_deadline{60 * timeout_multiplier()};

/// Waits for the end of `child`, whose standard error is the other end of the pipe `read_end`.
/// Closes `read_end`.
inline child_outcome await_child(pid_t child, int read_end) {
    const auto deadline = std::chrono::steady_clock::now() + child_deadline;
    child_outcome outcome;
    while (true) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        pollfd entry{read_end, POLLIN, 0};
        const int ready = left.count() > 0 ? ::poll(&entry, 1, static_cast<int>(left.count())) : 0;
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) {
            outcome.timed_out = true;
            ::kill(child, SIGKILL);
            break;
        }
        std::array<char, 4096> buffer{};
        const ssize_t count = ::read(read_end, buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) break;  // the child has ended
        outcome.error_text.append(buffer.data(), static_cast<std::size_t>(count));
    }
    ::close(read_end);
    while (::waitpid(child, &outcome.wait_status, 0) < 0 && errno == EINTR) {}
    return outcome;
}

/// Calls `body()` in a forked process, which then ends with _exit(0), or with _exit(99) after an
/// exception.
template <class Body>
child_outcome run_in_child(Body&& body) {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) throw std::system_error(errno, std::system_category(), "pipe");
    const pid_t child = ::fork();
    if (child < 0) throw std::system_error(errno, std::system_category(), "fork");
    if (child == 0) {
        const rlimit no_core{0, 0};
        ::setrlimit(RLIMIT_CORE, &no_core);
        ::signal(SIGABRT,
                 SIG_DFL);  // the test framework's handler would report the child as a test
        ::dup2(ends[1], STDERR_FILENO);
        ::close(ends[0]);
        ::close(ends[1]);
        try {
            body();
        } catch (const std::exception& failure) {
            std::fprintf(stderr, "child: %s\n", failure.what());
            ::_exit(99);
        }
        ::_exit(0);
    }
    ::close(ends[1]);
    return await_child(child, ends[0]);
}
