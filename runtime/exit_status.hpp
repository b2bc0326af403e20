// exit_status.hpp: the exit code or signal of a process that has ended.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <cstdint>

#include <sys/types.h>

namespace kevring {

/// How a process has ended.
struct exit_status {
    enum class exit_kind : std::uint8_t {
        unknown,  // not a child of this process, or its status was consumed by other code
        exited,   // by itself; `code` is its exit code
        killed,   // by the signal `code`
        dumped,   // by the signal `code`, with a core file
    };
    pid_t process = 0;
    exit_kind kind = exit_kind::unknown;
    int code = 0;

    bool success() const noexcept { return kind == exit_kind::exited && code == 0; }
};

}  // namespace kevring
