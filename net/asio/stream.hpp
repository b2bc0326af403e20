// stream.hpp: a socket of this library as an AsyncReadStream and AsyncWriteStream of Asio.
#pragma once

#include <kevring/net/asio/async_run.hpp>
#include <kevring/net/socket.hpp>
#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <asio/buffer.hpp>
#include <asio/error.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/socket.h>
#include <sys/uio.h>

namespace kevring {

/// A socket on which the algorithms of Asio work: async_read_until(), async_write(), asio::ssl::stream.
///
///     asio::ssl::stream<asio_stream> secure(asio_stream(std::move(connection)), tls);
///     co_await secure.async_handshake(asio::ssl::stream_base::server, asio::use_awaitable);
///
/// Errors      As asio::error_code; asio::error::eof once the peer has ended its sending side.
/// Lifetime    Outlives its operations, as a socket of Asio does not: an asio_stream must not be moved or
///             destroyed while one is pending.
/// Thread      The ring's.
/// In flight   One read and one write at a time.
class asio_stream {
    struct reading {
        explicit reading(socket connection) noexcept : connected(std::move(connection)) {}
        socket connected;
        borrowed_buffer rest;  // received, and not read yet
    };

public:
    using executor_type = ring_executor;
    using lowest_layer_type = asio_stream;

    explicit asio_stream(socket connection)
        : executor_(executor_of(connection.loop())),
          state_(std::make_unique<reading>(std::move(connection))) {}

    executor_type get_executor() const noexcept { return executor_; }
    lowest_layer_type& lowest_layer() noexcept { return *this; }
    const lowest_layer_type& lowest_layer() const noexcept { return *this; }
    kevring::socket& next_layer() noexcept { return state_->connected; }

    /// Reads at least one byte, unless `buffers` are empty. Signature: void(error_code, std::size_t).
    template <class Buffers, class Token>
    auto async_read_some(const Buffers& buffers, Token&& token) {
        return async_run(executor_, read(*state_, buffers), std::forward<Token>(token));
    }
    /// Writes all bytes of `buffers`. Signature: void(error_code, std::size_t).
    template <class Buffers, class Token>
    auto async_write_some(const Buffers& buffers, Token&& token) {
        return async_run(executor_, write(*state_, buffers), std::forward<Token>(token));
    }

private:
    template <class Buffers>
    static task<result<std::size_t>> read(reading& state, Buffers buffers) {
        if (asio::buffer_size(buffers) == 0) co_return std::size_t{0};
        if (state.rest.empty()) {
            auto received = co_await state.connected.receive();
            if (!received) co_return tl::unexpected<std::error_code>(received.error());
            if (received->empty())
                co_return tl::unexpected<std::error_code>(asio::error_code(asio::error::eof));
            state.rest = std::move(*received);
        }
        const std::size_t count =
            asio::buffer_copy(buffers, asio::const_buffer(state.rest.data(), state.rest.size()));
        state.rest.remove_prefix(count);
        if (state.rest.empty()) state.rest.reset();
        co_return count;
    }
    template <class Buffers>
    static task<send_result> write(reading& state, Buffers buffers) {
        std::vector<iovec> parts;
        for (auto iterator = asio::buffer_sequence_begin(buffers);
             iterator != asio::buffer_sequence_end(buffers); ++iterator) {
            const asio::const_buffer part(*iterator);
            if (part.size() != 0) parts.push_back({const_cast<void*>(part.data()), part.size()});
        }
        if (parts.empty()) co_return send_result(0);
        msghdr message{};
        message.msg_iov = parts.data();
        message.msg_iovlen = parts.size();
        co_return co_await state.connected.send(message);
    }

    ring_executor executor_;
    std::unique_ptr<reading> state_;
};

}  // namespace kevring
