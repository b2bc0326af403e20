// shell_child.hpp: children that are shells, and what is left of children.
#pragma once

#include "tests/support/catch.hpp"

#include <kevring/runtime/child_process.hpp>
#include <kevring/runtime/operations/wait_process.hpp>
#include <kevring/runtime/process_kernel.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <string>
#include <utility>

#include <sys/wait.h>

/// True if this process has no child, not even a zombie.
inline bool has_no_child() { return ::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD; }

/// A shell that runs `script`.
inline kevring::child_process spawn_shell(const std::string& script,
                                          const kevring::child_options& options = {}) {
    auto child = kevring::child_process::spawn({"sh", "-c", script}, options);
    REQUIRE(child.has_value());
    return std::move(*child);
}

/// A line of its output, without the end; an empty one at the end.
inline kevring::task<std::string> read_line(kevring::child_process& child) {
    std::string line;
    std::array<std::byte, 1> byte{};
    while (true) {
        const auto got = co_await child.output().read(byte);
        if (!got || *got == 0 || byte[0] == std::byte{'\n'}) co_return line;
        line += static_cast<char>(byte[0]);
    }
}

/// Waits for the end of a process that is not a child.
inline kevring::task<void> expect_end_of(pid_t process) {
    kevring::ring& loop = *kevring::ring::current();
    const auto handle = kevring::open_process(kevring::process_kernel::real(), process);
    if (!handle) {
        CHECK(handle.error() == std::errc::no_such_process);
        co_return;
    }
    kevring::wait_process_operation end(loop, *handle);
    const auto ended = co_await end;
    CHECK(ended.has_value());
}
