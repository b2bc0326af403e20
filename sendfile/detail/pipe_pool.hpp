// pipe_pool.hpp: a bounded pool of pipes for splice, one per thread.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/kernel.hpp>

#include <cstddef>
#include <utility>

namespace kevring::detail {

/// An empty pipe of the thread's pool, or none: all pipes of the pool are in use, or the process or
/// the user may open no more.
///
/// Thread     The loop's thread.
class pooled_pipe {
public:
    explicit pooled_pipe(kernel& system) noexcept;
    pooled_pipe(const pooled_pipe&) = delete;
    pooled_pipe& operator=(const pooled_pipe&) = delete;
    /// Returns the pipe to the pool; closes one that is not empty, or that a parent process opened.
    ~pooled_pipe();

    explicit operator bool() const noexcept { return read_end_.valid(); }
    fd_ref read_end() const noexcept { return read_end_; }
    fd_ref write_end() const noexcept { return write_end_; }
    /// Capacity in bytes if every page is full (F_GETPIPE_SZ).
    std::size_t capacity() const noexcept { return capacity_; }

    /// Bytes in the pipe, counted by its user.
    std::size_t buffered_bytes = 0;

    /// Pipes of this thread in use, and idle ones; for tests.
    static std::size_t in_use_count() noexcept;
    static std::size_t idle_count() noexcept;

private:
    fd read_end_;
    fd write_end_;
    std::size_t capacity_ = 0;
    unsigned generation_;  // of the process that opened it
};

}  // namespace kevring::detail
