#include <kevring/sendfile/detail/pipe_pool.hpp>

#include <kevring/runtime/detail/process.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>

#include <array>

namespace kevring::detail {
namespace {

// Each pipe has two descriptors and up to a window of pinned pages: further transfers use read_send.
// Some pipes stay open for later transfers.
constexpr std::size_t out_max = 64;
constexpr std::size_t idle_max = 8;

struct idle_pipe {
    fd read_end;
    fd write_end;
    std::size_t capacity = 0;
};

struct pool {
    std::array<idle_pipe, idle_max> idle;
    std::size_t idle_count = 0;
    std::size_t in_use_count = 0;
    unsigned generation = fork_generation();
    bool alive = true;
    ~pool() { alive = false; }
};

thread_local pool pipes;

// The pipes of a child's pool are those of its parent, which sends through them.
pool& pipes_of_this_process() noexcept {
    if (pipes.generation != fork_generation()) {
        for (idle_pipe& each : pipes.idle) each = {};
        pipes.idle_count = pipes.in_use_count = 0;
        pipes.generation = fork_generation();
    }
    return pipes;
}

}  // namespace

pooled_pipe::pooled_pipe(kernel& system) noexcept : generation_(fork_generation()) {
    pool& own = pipes_of_this_process();
    if (own.in_use_count == out_max) return;
    if (own.idle_count > 0) {
        idle_pipe& last = own.idle[--own.idle_count];
        read_end_ = std::move(last.read_end);
        write_end_ = std::move(last.write_end);
        capacity_ = last.capacity;
    } else {
        int ends[2] = {-1, -1};
        const int capacity = system.open_pipe(ends, window_bytes);
        if (capacity < 0) return;
        read_end_.reset(ends[0]);
        write_end_.reset(ends[1]);
        capacity_ = static_cast<std::size_t>(capacity);
    }
    ++own.in_use_count;
}

pooled_pipe::~pooled_pipe() {
    if (!read_end_ || generation_ != fork_generation()) return;
    pool& own = pipes_of_this_process();
    --own.in_use_count;
    if (buffered_bytes > 0 || !own.alive || own.idle_count == idle_max) return;
    own.idle[own.idle_count++] = {std::move(read_end_), std::move(write_end_), capacity_};
}

std::size_t pooled_pipe::in_use_count() noexcept { return pipes_of_this_process().in_use_count; }
std::size_t pooled_pipe::idle_count() noexcept { return pipes_of_this_process().idle_count; }

}  // namespace kevring::detail
