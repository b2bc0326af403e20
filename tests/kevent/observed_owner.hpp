// observed_owner.hpp: a thread that owns a queue (KEVENT_INIT_ONE_THREAD), watched from outside.
#pragma once

#include "tests/kevent/kevent_fixture.hpp"

#include <sys/syscall.h>

namespace kevent_test {

class observed_owner : public observed_thread {
public:
    using observed_thread::observed_thread;

    /// Returns once the thread sleeps in io_uring_enter(2). False: it has ended, or does not within
    /// the deadline.
    bool sleeps_in_enter() const {
        const auto end = std::chrono::steady_clock::now() + half_of_test_timeout;
        while (!ended() && std::chrono::steady_clock::now() < end) {
            std::ifstream file("/proc/self/task/" + std::to_string(id()) + "/syscall");
            long number = -1;  // it runs
            if (id() != 0 && file >> number && number == SYS_io_uring_enter) return true;
            std::this_thread::yield();
        }
        return false;
    }
};

}  // namespace kevent_test
