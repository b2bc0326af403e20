// child_process.cpp: see child_process.hpp.
#include <kevring/runtime/child_process.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/spawn_request.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/operations/wait_process.hpp>
#include <kevring/runtime/process_kernel.hpp>
#include <kevring/runtime/shield.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <new>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace kevring {

// The process, and after the destructor of child_process the request that waits for its end.
class child_process::state final : public completion {
public:
    state(ring& on_loop, process_kernel& calls, pid_t started, fd descriptor,
          child_group signalled) noexcept
        : loop(on_loop),
          system(calls),
          process(started),
          handle(std::move(descriptor)),
          group(signalled) {}

    // The number of a process, and that of its group, may be another's once other code has reaped the
    // child: the descriptor is signalled instead, or on kernels that cannot do that for a group the
    // number, after a check that the child is not reaped.
    int send(int number) const noexcept {
        if (group == child_group::shared)
            return system.signal_opened(handle.number(), number, signal_target::process);
        const int answer = system.signal_opened(handle.number(), number, signal_target::group);
        if (answer != -EINVAL) return answer;
        siginfo_t info{};
        const int kept = system.wait_process(handle.number(), info, WEXITED | WNOHANG | WNOWAIT);
        return kept < 0 ? -ESRCH : system.signal_process(-process, number);
    }

    // The child is a zombie, whose number nothing else has: the last moment to signal its group.
    void finish(const exit_status& seen) noexcept {
        ended = true;
        status = seen;
        status.process = process;
        if (group != child_group::shared) send(SIGKILL);
        static_cast<void>(process_status(system, handle, zombie_policy::reap));
    }

    // After SIGKILL. False: it has not ended yet.
    bool reap() noexcept {
        const auto seen = process_status(system, handle, zombie_policy::reap);
        return seen || seen.error() != std::errc::resource_unavailable_try_again;
    }

    void prepare(io_uring_sqe& sqe) noexcept override {
        io_uring_prep_poll_add(&sqe, handle.number(), POLLIN);
    }
    // The ring's destructor cancels the request; the process has SIGKILL, and ends without delay.
    void complete(std::int32_t, std::uint32_t) noexcept override {
        siginfo_t info{};
        while (system.wait_process(handle.number(), info, WEXITED) == -EINTR) {}
        delete this;
    }

    ring& loop;
    process_kernel& system;
    const pid_t process;
    const fd handle;
    const child_group group;
    bool ended = false;
    exit_status status;
};

void child_process::state_end::operator()(state* child) const noexcept {
    if (child->ended || child->loop.created_by_parent_process()) {
        delete child;
        return;
    }
    child->send(SIGKILL);
    if (child->reap())
        delete child;
    else
        child->loop.queue(*child);
}

namespace {

constexpr int number_max = 255;

bool has_null(const std::string& text) noexcept { return text.find('\0') != std::string::npos; }

// The arguments of posix_spawn(3) under construction. All calls on it end with the first error.
class spawn_builder {
public:
    spawn_builder() {
        if (::posix_spawn_file_actions_init(&actions_) != 0) throw std::bad_alloc();
        if (::posix_spawnattr_init(&attributes_) != 0) {
            ::posix_spawn_file_actions_destroy(&actions_);
            throw std::bad_alloc();
        }
    }
    spawn_builder(const spawn_builder&) = delete;
    spawn_builder& operator=(const spawn_builder&) = delete;
    ~spawn_builder() {
        ::posix_spawnattr_destroy(&attributes_);
        ::posix_spawn_file_actions_destroy(&actions_);
    }

    void set_group(child_group group) noexcept {
        short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
        if (group == child_group::own) flags |= POSIX_SPAWN_SETPGROUP;
        if (group == child_group::session) flags |= POSIX_SPAWN_SETSID;
        sigset_t none;
        sigset_t all;
        ::sigemptyset(&none);
        ::sigfillset(&all);
        ::posix_spawnattr_setsigmask(&attributes_, &none);
        ::posix_spawnattr_setsigdefault(&attributes_, &all);
        ::posix_spawnattr_setflags(&attributes_, flags);
    }

    void set_directory(const std::string& directory) {
        if (!directory.empty())
            note(::posix_spawn_file_actions_addchdir_np(&actions_, directory.c_str()));
    }

    // Sources get numbers above all that the child has, so that no target overwrites a source.
    void place(fd_ref source, int number, int first_free) {
        fd moved(::fcntl(source.number(), F_DUPFD_CLOEXEC, first_free));
        if (!moved) {
            note(errno);
            return;
        }
        note(::posix_spawn_file_actions_adddup2(&actions_, moved.number(), number));
        duplicates_.push_back(std::move(moved));
    }
    void place_null(int number) {
        note(::posix_spawn_file_actions_addopen(&actions_, number, "/dev/null", O_RDWR, 0));
    }
    void copy_output() {
        note(::posix_spawn_file_actions_adddup2(&actions_, STDOUT_FILENO, STDERR_FILENO));
    }
    // Last: closes what the child does not get.
    void close_rest(const std::vector<child_descriptor>& kept, int first_free) {
        for (int number = STDERR_FILENO + 1; number < first_free; ++number)
            if (std::none_of(kept.begin(), kept.end(),
                             [&](const child_descriptor& each) { return each.number == number; }))
                note(::posix_spawn_file_actions_addclose(&actions_, number));
        note(::posix_spawn_file_actions_addclosefrom_np(&actions_, first_free));
    }

    void note(int error) noexcept {
        if (error_ == 0) error_ = error;
    }
    int error() const noexcept { return error_; }
    const posix_spawn_file_actions_t* actions() const noexcept { return &actions_; }
    const posix_spawnattr_t* attributes() const noexcept { return &attributes_; }

private:
    posix_spawn_file_actions_t actions_;
    posix_spawnattr_t attributes_;
    std::vector<fd> duplicates_;
    int error_ = 0;
};

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    pointers.reserve(texts.size() + 1);
    // posix_spawn(3) does not write to them.
    for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
    pointers.push_back(nullptr);
    return pointers;
}

bool is_valid(const std::vector<std::string>& arguments, const child_options& options) {
    if (arguments.empty() || has_null(options.directory)) return false;
    if (std::any_of(arguments.begin(), arguments.end(), has_null)) return false;
    if (options.environment &&
        std::any_of(options.environment->begin(), options.environment->end(), has_null))
        return false;
    if (options.input.kind() == child_stream::source_kind::output ||
        options.output.kind() == child_stream::source_kind::output)
        return false;
    std::array<bool, number_max + 1> used{};
    for (const child_descriptor& each : options.descriptors) {
        if (each.number <= STDERR_FILENO || each.number > number_max) return false;
        if (std::exchange(used[static_cast<std::size_t>(each.number)], true)) return false;
    }
    return true;
}

struct pipe_ends {
    fd reading;
    fd writing;
};

result<pipe_ends> open_pipe(process_kernel& system) noexcept {
    int numbers[2] = {-1, -1};
    const int answer = system.open_pipe(numbers);
    if (answer < 0) return error_from(answer);
    return pipe_ends{fd(numbers[0]), fd(numbers[1])};
}

}  // namespace

child_process::child_process(std::unique_ptr<state, state_end> started) noexcept
    : state_(std::move(started)) {}
child_process& child_process::operator=(child_process&& other) noexcept = default;
child_process::~child_process() = default;

result<child_process> child_process::spawn(const std::vector<std::string>& arguments,
                                           const child_options& options) {
    ring* const loop = ring::current();
    KEVRING_ASSERT(loop != nullptr,
                   "child process spawned by a thread that drives no ring; spawn it in a task that "
                   "run() or spawn() started");
    if (loop->created_by_parent_process()) return error_from(std::errc::operation_not_permitted);
    if (!is_valid(arguments, options)) return error_from(std::errc::invalid_argument);
    process_kernel& system = process_kernel::chosen_by(*loop);

    int first_free = STDERR_FILENO + 1;
    for (const child_descriptor& each : options.descriptors)
        first_free = std::max(first_free, each.number + 1);

    spawn_builder builder;
    builder.set_group(options.group);
    std::array<fd, 3> own_ends;
    std::array<fd, 3> child_ends;
    const std::array<child_stream, 3> streams{options.input, options.output, options.error};
    for (std::size_t index = 0; index < streams.size(); ++index) {
        const int number = static_cast<int>(index);
        switch (streams[index].kind()) {
            case child_stream::source_kind::inherited: break;
            case child_stream::source_kind::null: builder.place_null(number); break;
            case child_stream::source_kind::output: builder.copy_output(); break;
            case child_stream::source_kind::file:
                builder.place(streams[index].opened(), number, first_free);
                break;
            case child_stream::source_kind::pipe: {
                auto opened = open_pipe(system);
                if (!opened) return tl::unexpected<std::error_code>(opened.error());
                const bool child_reads = number == STDIN_FILENO;
                own_ends[index] = std::move(child_reads ? opened->writing : opened->reading);
                child_ends[index] = std::move(child_reads ? opened->reading : opened->writing);
                builder.place(child_ends[index], number, first_free);
                break;
            }
        }
    }
    for (const child_descriptor& each : options.descriptors)
        builder.place(each.source, each.number, first_free);
    builder.close_rest(options.descriptors, first_free);
    builder.set_directory(options.directory);
    if (builder.error() != 0) return error_from(-builder.error());

    const std::vector<char*> argument_pointers = pointers_to(arguments);
    std::vector<char*> environment_pointers;
    if (options.environment) environment_pointers = pointers_to(*options.environment);
    const detail::spawn_request request{
        arguments.front().c_str(), builder.actions(), builder.attributes(),
        argument_pointers.data(), options.environment ? environment_pointers.data() : environ};
    const pid_t process = system.spawn_process(request);
    if (process < 0) return error_from(process);
    auto handle = open_process(system, process);
    std::unique_ptr<state, state_end> started;
    if (handle) {
        auto* const made =
            new (std::nothrow) state(*loop, system, process, std::move(*handle), options.group);
        if (made != nullptr) started.reset(made);
        if (made == nullptr) handle = error_from(-ENOMEM);
    }
    if (!started) {  // nothing of it is left
        system.signal_process(options.group == child_group::shared ? process : -process, SIGKILL);
        while (::waitpid(process, nullptr, 0) < 0 && errno == EINTR) {}
        return tl::unexpected<std::error_code>(handle.error());
    }
    child_process child(std::move(started));
    if (own_ends[0]) child.input_ = pipe_writer(*loop, std::move(own_ends[0]));
    if (own_ends[1]) child.output_ = pipe_reader(*loop, std::move(own_ends[1]));
    if (own_ends[2]) child.error_ = pipe_reader(*loop, std::move(own_ends[2]));
    return child;
}

pid_t child_process::process() const noexcept { return state_ ? state_->process : 0; }

task<result<exit_status>> child_process::wait() {
    if (!state_) co_return error_from(std::errc::no_such_process);
    state& child = *state_;
    if (!child.ended) {
        // The zombie keeps the number of the group from reuse until the group was killed.
        wait_process_operation end(child.loop, child.handle, zombie_policy::keep);
        const auto seen = co_await end;
        if (!seen) co_return tl::unexpected<std::error_code>(seen.error());
        if (!child.ended) child.finish(*seen);
    }
    co_return child.status;
}

task<result<exit_status>> child_process::terminate(clamped_duration grace) {
    if (!state_) co_return error_from(std::errc::no_such_process);
    state& child = *state_;
    if (!child.ended) {
        child.send(SIGTERM);
        child.send(SIGCONT);  // a stopped process handles SIGTERM only when it continues
        auto ended = wait();
        const auto seen = co_await shield(std::move(ended), nanoseconds(grace));
        if (!seen && !child.ended) {
            child.send(SIGKILL);
            auto killed = wait();
            co_return co_await shield(std::move(killed), nanoseconds::max());
        }
    }
    co_return child.status;
}

task<result<exit_status>> child_process::wait_or_terminate(clamped_duration limit,
                                                           clamped_duration grace) {
    auto ended = wait();
    const auto seen = co_await with_timeout(std::move(ended), limit);
    if (seen) co_return seen;
    co_return co_await terminate(grace);
}

result<void> child_process::signal(int number) noexcept {
    if (!state_ || state_->ended) return error_from(std::errc::no_such_process);
    const int answer = state_->send(number);
    if (answer < 0) return error_from(answer);
    return {};
}

}  // namespace kevring
