// pipe_pool.hpp: pipes for splice, few of them, recycled by the thread.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/kernel.hpp>

#include <cstddef>
#include <utility>

namespace kevring::detail {

/// An empty pipe of the thread's pool, or nothing where there is none to have: so many transfers
/// have one each already, or the process or the user may open no more.
///
/// Thread     The ring's own.
class pooled_pipe {
public:
    explicit pooled_pipe(kernel& system) noexcept;
    pooled_pipe(const pooled_pipe&) = delete;
    pooled_pipe& operator=(const pooled_pipe&) = delete;
    /// Gives the pipe back; one that is not empty is closed.
    ~pooled_pipe();

    explicit operator bool() const noexcept { return read_end_.valid(); }
    fd_ref read_end() const noexcept { return read_end_; }
    fd_ref write_end() const noexcept { return write_end_; }
    /// What the pipe takes at most, if every page is full (F_GETPIPE_SZ).
    std::size_t capacity() const noexcept { return capacity_; }

    /// Bytes inside, as its user counts them.
    std::size_t held_bytes = 0;

    /// Pipes of this thread that are out, and those that wait to be used again; for tests.
    static std::size_t out_count() noexcept;
    static std::size_t idle_count() noexcept;

private:
    fd read_end_;
    fd write_end_;
    std::size_t capacity_ = 0;
};

}  // namespace kevring::detail
