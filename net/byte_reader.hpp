// byte_reader.hpp: lines and counted bytes out of a socket.
#pragma once

#include <kevring/net/socket.hpp>
#include <kevring/runtime/task.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace kevring {

/// Reads a stream in the pieces that a protocol has.
///
/// Lifetime   `from` outlives it. A view that a call gives is valid until the next call.
/// Thread     The ring's own.
class byte_reader {
public:
    explicit byte_reader(socket& source) noexcept : socket_(source) {}

    /// The bytes up to `delimiter`, without it.
    ///
    /// Errors     message_size when there is none within `byte_count_max`; connection_aborted when
    ///            the stream ends within a line; no_message when it ends before one. After an error
    ///            of the wait, such as timed_out, the bytes that came are kept for the next call.
    task<result<std::string_view>> read_line(std::size_t byte_count_max = 65536,
                                             std::string_view delimiter = "\n");

    /// Exactly `byte_count` bytes.
    ///
    /// Errors     connection_aborted when the stream ends before; else as line().
    task<result<std::string_view>> read_exactly(std::size_t byte_count);

    /// All bytes up to the end of the stream; none if it has ended.
    ///
    /// Errors     message_size when there are more than `byte_count_max`; else as read_line(). The bytes
    ///            that came are kept for the next call.
    task<result<std::string_view>> read_to_end(std::size_t byte_count_max);

    /// The bytes that were received and not read: the next reader of the socket reads them first.
    std::string_view buffered() const noexcept {
        return std::string_view(bytes_).substr(consumed_);
    }

    /// socket::detach() with the bytes that the reader holds before the others.
    task<result<detached_socket>> detach();

private:
    task<result<void>> receive_more();
    void drop_consumed();

    socket& socket_;
    std::string bytes_;
    std::size_t consumed_ = 0;
    bool ended_ = false;
};

}  // namespace kevring
