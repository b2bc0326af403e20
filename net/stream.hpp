// stream.hpp: whole buffers through any stream: sockets, pipes, and streams of the program.
#pragma once

#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/write_result.hpp>

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
/// Errors     Those of the stream; broken_pipe if it takes no byte. write_result::bytes_written() is the
///            number of bytes that it has taken before the error, as far as the stream reports it.
/// Lifetime   `target` and `bytes` stay valid until the await completes.
/// Thread     The loop's thread.
/// In flight  It is the only send of `target`.
template <class Stream>
task<write_result> write_all(Stream& target, std::span<const std::byte> bytes) {
    std::size_t written = 0;
    while (written != bytes.size()) {
        const auto rest = bytes.subspan(written);
        if constexpr (requires { target.send(rest); }) {
            const auto sent = co_await target.send(rest);
            if constexpr (requires { sent.bytes_sent(); }) {
                written += sent.bytes_sent();
            } else if (sent) {
                written += *sent;
            }
            if (!sent)
                co_return write_result(tl::unexpected<std::error_code>(sent.error()), written);
            if (*sent == 0) co_return write_result(error_from(std::errc::broken_pipe), written);
        } else {
            const auto taken = co_await target.write(rest);
            if constexpr (requires { taken.bytes_written(); }) {
                written += taken.bytes_written();
                if (taken && taken.bytes_written() == 0)
                    co_return write_result(error_from(std::errc::broken_pipe), written);
            } else if constexpr (requires { rest.subspan(*taken); }) {
                if (taken) written += *taken;
                if (taken && *taken == 0)
                    co_return write_result(error_from(std::errc::broken_pipe), written);
            } else {
                if (taken) written = bytes.size();
            }
            if (!taken)
                co_return write_result(tl::unexpected<std::error_code>(taken.error()), written);
        }
    }
    co_return write_result(written);
}
template <class Stream>
task<write_result> write_all(Stream& target, std::string_view text) {
    return write_all(target, std::as_bytes(std::span(text)));
}
template <class Stream, byte_view Bytes>
task<write_result> write_all(Stream& target, const Bytes& bytes) {
    return write_all(target, bytes_of(bytes));
}

namespace detail {

template <class Stream>
task<write_result> write_parts(Stream& target, std::vector<iovec> parts) {
    std::size_t written = 0;
    for (const iovec& part : parts) {
        const write_result sent = co_await write_all(target, bytes_of_part(part));
        written += sent.bytes_written();
        if (!sent) co_return write_result(tl::unexpected<std::error_code>(sent.error()), written);
    }
    co_return write_result(written);
}

}  // namespace detail

/// Sends the bytes of all elements of a list, one after the other; the list itself is not used after the
/// call.
template <class Stream, byte_view_list List>
task<write_result> write_all(Stream& target, const List& list) {
    return detail::write_parts(target, detail::parts_of(list));
}

}  // namespace kevring
