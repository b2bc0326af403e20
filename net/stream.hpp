// stream.hpp: whole buffers through any stream: sockets, pipes, and streams of the program.
#pragma once

#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <cstddef>
#include <span>
#include <string_view>
#include <system_error>
#include <vector>

namespace kevring {

/// Fills all of `buffer` from a stream that has an await receive(buffer) or read(buffer) with a number
/// of bytes, which is 0 at the end.
///
/// Errors     connection_aborted if the stream ends before; otherwise those of the stream. The bytes
///            that were read before an error are lost: byte_reader keeps them.
/// Lifetime   `source` and `buffer` stay valid until the await completes.
/// Thread     The loop's thread.
/// In flight  It is the only receive of `source`.
template <class Stream>
task<result<void>> read_exactly(Stream& source, std::span<std::byte> buffer) {
    while (!buffer.empty()) {
        result<std::size_t> count = std::size_t{0};
        if constexpr (requires { source.receive(buffer); }) {
            count = co_await source.receive(buffer);
        } else {
            count = co_await source.read(buffer);
        }
        if (!count) co_return tl::unexpected<std::error_code>(count.error());
        if (*count == 0) co_return error_from(std::errc::connection_aborted);
        buffer = buffer.subspan(*count);
    }
    co_return result<void>();
}

/// Sends all of `bytes` to a stream that has an await send(bytes) or write(bytes). Those of the library
/// send all or fail; a stream of the program may send fewer.
///
/// Errors     Those of the stream; broken_pipe if it takes no byte. Some bytes may have been sent.
/// Lifetime   `target` and `bytes` stay valid until the await completes.
/// Thread     The loop's thread.
/// In flight  It is the only send of `target`.
template <class Stream>
task<result<void>> write_all(Stream& target, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        if constexpr (requires { target.send(bytes); }) {
            const auto sent = co_await target.send(bytes);
            if (!sent) co_return tl::unexpected<std::error_code>(sent.error());
            if (*sent == 0) co_return error_from(std::errc::broken_pipe);
            bytes = bytes.subspan(*sent);
        } else {
            const auto written = co_await target.write(bytes);
            if (!written) co_return tl::unexpected<std::error_code>(written.error());
            if constexpr (requires { bytes.subspan(*written); }) {
                if (*written == 0) co_return error_from(std::errc::broken_pipe);
                bytes = bytes.subspan(*written);
            } else {
                bytes = {};
            }
        }
    }
    co_return result<void>();
}
template <class Stream>
task<result<void>> write_all(Stream& target, std::string_view text) {
    return write_all(target, std::as_bytes(std::span(text)));
}
template <class Stream, byte_view Bytes>
task<result<void>> write_all(Stream& target, const Bytes& bytes) {
    return write_all(target, bytes_of(bytes));
}

namespace detail {

template <class Stream>
task<result<void>> write_parts(Stream& target, std::vector<iovec> parts) {
    for (const iovec& part : parts) {
        const result<void> written = co_await write_all(target, bytes_of_part(part));
        if (!written) co_return tl::unexpected<std::error_code>(written.error());
    }
    co_return result<void>();
}

}  // namespace detail

/// Sends the bytes of all elements of a list, one after the other; the list itself is not used after the
/// call.
template <class Stream, byte_view_list List>
task<result<void>> write_all(Stream& target, const List& list) {
    return detail::write_parts(target, detail::parts_of(list));
}

}  // namespace kevring
