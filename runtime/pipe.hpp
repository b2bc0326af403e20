// pipe.hpp: the ends of a pipe, read and written by a coroutine.
#pragma once

#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/write_result.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace kevring {

/// The end of a pipe that bytes come out of.
///
/// Lifetime   Outlives every await on it; within the life of its ring. The destructor closes the end.
/// Thread     The ring's own.
/// In flight  One read at a time.
class pipe_reader {
public:
    pipe_reader() noexcept = default;
    pipe_reader(ring& loop, fd end) noexcept : ring_(&loop), end_(std::move(end)) {}

    /// False if there is no pipe, or the end was closed.
    explicit operator bool() const noexcept { return end_.valid(); }
    fd_ref native() const noexcept { return end_; }
    void close() noexcept { end_.reset(); }

    /// Reads what the pipe holds, at most `buffer.size()` bytes.
    ///
    /// Result     At least one byte; 0 after every writer has closed its end.
    /// Errors     operation_canceled, timed_out; bad_file_descriptor after close(); invalid_argument
    ///            for an empty buffer; otherwise as for read(2).
    /// Lifetime   `buffer` stays valid until the await completes.
    task<result<std::size_t>> read(std::span<std::byte> buffer);

    /// Reads to the end of the pipe and appends to `text`.
    ///
    /// Errors     Those of read(); message_size if there are more than `byte_count_max` bytes. `text`
    ///            has what was read before the error, at most `byte_count_max` bytes of it.
    /// Lifetime   `text` stays valid until the await completes.
    task<result<void>> read_all(std::string& text, std::size_t byte_count_max);

private:
    ring* ring_ = nullptr;
    fd end_;
};

/// The end of a pipe that bytes go into.
///
/// Lifetime   Outlives every await on it; within the life of its ring. The destructor closes the
///            end: the reader then reads to its end.
/// Thread     The ring's own.
/// In flight  One write at a time.
class pipe_writer {
public:
    pipe_writer() noexcept = default;
    /// Sets O_NONBLOCK on `end`.
    pipe_writer(ring& loop, fd end) noexcept;

    /// False if there is no pipe, or the end was closed.
    explicit operator bool() const noexcept { return end_.valid(); }
    fd_ref native() const noexcept { return end_; }
    void close() noexcept { end_.reset(); }

    /// Writes all of `bytes`; waits while the pipe is full.
    ///
    /// Errors     operation_canceled, timed_out; bad_file_descriptor after close(); broken_pipe,
    ///            without a signal, after the reader has closed its end; otherwise as for write(2).
    ///            write_result::bytes_written() is the number of bytes written before the error.
    /// Lifetime   `bytes` stay valid until the await completes.
    /// Kernel     A direct write(2) with SIGPIPE blocked, because a request of the ring would raise the
    ///            signal; IORING_OP_POLL_ADD while the pipe is full.
    task<write_result> write(std::span<const std::byte> bytes);
    task<write_result> write(std::string_view text);
    template <byte_view Bytes>
    task<write_result> write(const Bytes& bytes) {
        return write(bytes_of(bytes));
    }

private:
    ring* ring_ = nullptr;
    fd end_;
};

/// Both ends of one pipe.
struct pipe_pair {
    pipe_reader reader;
    pipe_writer writer;
};

/// Opens a pipe, close-on-exec.
///
/// Errors     As for pipe2(2).
/// Kernel     A direct pipe2(2), which does not block.
result<pipe_pair> open_pipe(ring& loop);

}  // namespace kevring
