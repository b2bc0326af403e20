// stdio_stream.hpp: standard input and output, and other descriptors that the program shares.
#pragma once

#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/write_result.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace kevring {
namespace detail {

/// A descriptor whose open file description belongs to other processes as well, and whose status flags
/// are therefore not changed.
class shared_descriptor {
public:
    shared_descriptor(ring& loop, fd_ref file, int access) noexcept;

    enum class kind : std::uint8_t {
        plain,        // a regular file or a device: it never waits
        socket,       // flags of each call keep it from waiting
        own_pipe,     // a pipe or terminal, opened a second time with O_NONBLOCK
        shared_pipe,  // one that cannot be opened a second time
    };
    ring& loop() const noexcept { return *ring_; }
    kind what() const noexcept { return kind_; }
    fd_ref file() const noexcept { return own_ ? fd_ref(own_) : file_; }

private:
    ring* ring_;
    fd_ref file_;
    fd own_;
    kind kind_ = kind::plain;
};

}  // namespace detail

/// Reads from a terminal, a pipe, a socket or a file that other processes share, without blocking the
/// loop and without O_NONBLOCK on their open file description: a shell that gets the terminal back finds
/// it unchanged.
///
/// Lifetime   Outlives every await on it; `file` stays open as long. Within the life of its ring.
/// Thread     The ring's own.
/// In flight  One read at a time.
class input_stream {
public:
    input_stream(ring& loop, fd_ref file) noexcept;

    /// Reads between one and `buffer.size()` bytes; 0 at the end, which for a terminal is the
    /// end-of-file character.
    ///
    /// Errors     operation_canceled, timed_out, and no byte is lost; invalid_argument for an empty
    ///            buffer; otherwise as for read(2).
    /// Lifetime   `buffer` stays valid until the await completes.
    /// Kernel     Terminals and pipes are opened again through /proc/self/fd with O_NONBLOCK:
    ///            IORING_OP_POLL_ADD, Linux 5.1, and a direct read(2). Files, and pipes that cannot be
    ///            opened again, by IORING_OP_READ (5.6); sockets by IORING_OP_RECV (5.6).
    task<result<std::size_t>> read(std::span<std::byte> buffer);
    /// Reads a line without its newline into `line`; false at the end without one. The last line may
    /// lack the newline.
    ///
    /// Errors     Those of read(), and the bytes of the line so far are returned by the next call;
    ///            message_size for a line of more than `byte_count_max` bytes.
    /// Lifetime   `line` stays valid until the await completes.
    task<result<bool>> read_line(std::string& line, std::size_t byte_count_max = 64 * 1024);

private:
    detail::shared_descriptor input_;
    std::string pending_;      // read, and not returned by read_line()
    std::size_t scanned_ = 0;  // bytes of it without a newline
};

/// Writes to a terminal, a pipe, a socket or a file that other processes share; see input_stream.
///
/// Lifetime   Outlives every await on it; `file` stays open as long. Within the life of its ring.
/// Thread     The ring's own.
/// In flight  One write at a time.
class output_stream {
public:
    output_stream(ring& loop, fd_ref file) noexcept;

    /// Writes all of `bytes`.
    ///
    /// Errors     operation_canceled, timed_out; broken_pipe without a signal; otherwise as for
    ///            write(2). write_result::bytes_written() is the number of bytes written before the
    ///            error.
    /// Lifetime   `bytes` stay valid until the await completes.
    /// Kernel     Terminals and pipes are opened again through /proc/self/fd with O_NONBLOCK:
    ///            IORING_OP_POLL_ADD, Linux 5.1, and a direct write(2) with SIGPIPE blocked. Pipes that
    ///            cannot be opened again: the same, with at most 4096 bytes on a thread of the shared
    ///            pool. Files by IORING_OP_WRITE (5.6) at their position; sockets by IORING_OP_SEND.
    task<write_result> write(std::span<const std::byte> bytes);
    task<write_result> write(std::string_view text);
    template <byte_view Bytes>
    task<write_result> write(const Bytes& bytes) {
        return write(bytes_of(bytes));
    }

private:
    detail::shared_descriptor output_;
};

/// Standard input: descriptor 0.
class stdin_stream final : public input_stream {
public:
    explicit stdin_stream(ring& loop) noexcept : input_stream(loop, fd_ref(0)) {}
};

/// Standard output: descriptor 1. It shares no buffer with stdout of <cstdio>.
class stdout_stream final : public output_stream {
public:
    explicit stdout_stream(ring& loop) noexcept : output_stream(loop, fd_ref(1)) {}
};

/// Standard error: descriptor 2.
class stderr_stream final : public output_stream {
public:
    explicit stderr_stream(ring& loop) noexcept : output_stream(loop, fd_ref(2)) {}
};

}  // namespace kevring
