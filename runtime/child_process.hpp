// child_process.hpp: starts a program, and ends it with its group.
//
//     auto child = kevring::child_process::spawn({"sort", "-n"}, {.input = child_stream::pipe(),
//                                                                 .output = child_stream::pipe()});
//     co_await child->input().write("2\n1\n");
//     child->input().close();
//     co_await child->output().read_all(sorted, 1 << 20);
//     auto status = co_await child->wait();
#pragma once

#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/exit_status.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/pipe.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/types.h>

namespace kevring {

/// A standard stream of a child.
class child_stream {
public:
    enum class source_kind : std::uint8_t { inherited, null, pipe, file, output };

    /// That of this process.
    static child_stream inherit() noexcept { return child_stream(source_kind::inherited); }
    /// /dev/null.
    static child_stream null() noexcept { return child_stream(source_kind::null); }
    /// A pipe, whose other end is a member of child_process.
    static child_stream pipe() noexcept { return child_stream(source_kind::pipe); }
    /// An open file.
    ///
    /// Lifetime   `file` stays open until spawn() has returned.
    static child_stream file(fd_ref file) noexcept { return child_stream(source_kind::file, file); }
    /// For standard error: the same as standard output.
    static child_stream output() noexcept { return child_stream(source_kind::output); }

    source_kind kind() const noexcept { return kind_; }
    fd_ref opened() const noexcept { return file_; }

private:
    explicit child_stream(source_kind kind, fd_ref file = {}) noexcept : kind_(kind), file_(file) {}

    source_kind kind_;
    fd_ref file_;
};

/// An open file that a child gets at a number of its own.
struct child_descriptor {
    fd_ref source;   // stays open until spawn() has returned
    int number = 3;  // 3 to 255, each at most once
};

/// The processes that a signal to a child reaches.
enum class child_group : std::uint8_t {
    own,      // a process group of its own: the child and its descendants
    session,  // a session of its own, without a terminal; its first process group
    shared,   // that of this process: signals reach the child only
};

struct child_options {
    child_stream input = child_stream::null();
    child_stream output = child_stream::inherit();
    child_stream error = child_stream::inherit();
    std::vector<child_descriptor> descriptors = {};
    // Entries "NAME=value". Without a value: the environment of this process.
    std::optional<std::vector<std::string>> environment = std::nullopt;
    std::string directory = {};  // the working directory; empty: that of this process
    child_group group = child_group::own;
};

/// A program that this process has started.
///
/// The child has the standard streams and the descriptors that the options name, and no other
/// descriptor, whether or not it is close-on-exec. No signal is blocked or ignored in it. The end of
/// the child ends its group: processes of the group that outlive it get SIGKILL, except in a shared
/// group. A process that leaves the group (setsid(2)) is not reached.
///
/// Lifetime   Outlives every await on it; within the life of its ring. The destructor kills the group
///            with SIGKILL if the child has not ended; the loop reaps it, and if the ring is destroyed
///            before that, its destructor waits for the kernel to end the child. So no zombie is left.
/// Thread     The ring's own.
/// Fork       In a process that was forked from the ring's, the destructor leaves the child alone.
class child_process {
public:
    /// Starts `arguments[0]`, which is searched in PATH of this process if it has no slash. A path
    /// that is not absolute begins at the child's directory.
    ///
    /// Errors     no_such_file_or_directory and the like for a program or a directory that is not to
    ///            be had, as of execve(2) and chdir(2); invalid_argument for no arguments, for text
    ///            with a null character, and for a descriptor's number outside of 3 to 255 or used
    ///            twice; too_many_files_open; otherwise as for posix_spawn(3). Then no process is left.
    /// Thread     That of a ring's loop, which waits until the kernel has loaded the program: some
    ///            0.5 ms if the file is in the page cache.
    /// Kernel     posix_spawn(3) of glibc 2.34, pidfd_open(2), Linux 5.3. SIGCHLD must not be ignored,
    ///            or the kernel discards the status: its kind is unknown then.
    static result<child_process> spawn(const std::vector<std::string>& arguments,
                                       const child_options& options = {});

    child_process(child_process&& other) noexcept = default;
    child_process& operator=(child_process&& other) noexcept;
    ~child_process();

    /// The ends of the pipes that the options asked for.
    pipe_writer& input() noexcept { return input_; }
    pipe_reader& output() noexcept { return output_; }
    pipe_reader& error() noexcept { return error_; }

    /// The number of the process; its meaning ends with the process.
    pid_t process() const noexcept;

    /// Waits for the end of the child. A later call returns the same status.
    ///
    /// Errors     operation_canceled, timed_out: the child continues to run.
    task<result<exit_status>> wait();

    /// Sends SIGTERM to the group, and SIGKILL if the child has not ended after `grace`; waits for the
    /// end. A stop of the scope around it does not reach this await.
    ///
    /// Errors     operation_canceled if the ring is destroyed.
    task<result<exit_status>> terminate(clamped_duration grace);

    /// wait() for at most `limit`, then terminate(grace); so too after a stop of the scope.
    ///
    /// Result     The status; `killed` by SIGTERM or SIGKILL mostly means that the limit has passed.
    task<result<exit_status>> wait_or_terminate(clamped_duration limit, clamped_duration grace);

    /// Sends a signal to the group.
    ///
    /// Errors     no_such_process after the end of the child was awaited; otherwise as for kill(2).
    result<void> signal(int number) noexcept;

private:
    class state;
    struct state_end {
        void operator()(state* ended) const noexcept;
    };

    explicit child_process(std::unique_ptr<state, state_end> started) noexcept;

    std::unique_ptr<state, state_end> state_;
    pipe_writer input_;
    pipe_reader output_;
    pipe_reader error_;
};

}  // namespace kevring
