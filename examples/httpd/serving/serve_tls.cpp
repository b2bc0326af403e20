// serve_tls.cpp: connections of https. Requests and responses are those of http; this file has the
// handshake, and the bodies of large files, which are read and encrypted.
#include "connection.hpp"

#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/sendfile/send_options.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <new>
#include <span>
#include <utility>

#include <sys/stat.h>
#include <sys/uio.h>

namespace httpd {

kevring::task<void> connection::serve_tls(worker& owner, kevring::socket client) {
    auto limit = co_await kevring::within(std::chrono::nanoseconds::max());
    connection self(owner, std::move(client), limit.scope());
    outcome after = outcome::keep;
    try {
        std::optional<kevring::tls_stream> stream = co_await self.begin_tls();
        if (!stream) co_return;
        self.tls_ = &*stream;
        while (after == outcome::keep && !owner.draining()) {
            self.idle_ = true;
            self.extend_timeout(owner.options().idle_time);
            auto received = co_await stream->receive();
            if (!received || received->empty()) break;
            self.idle_ = false;
            after = co_await self.handle_requests(std::move(*received));
            self.held_.reset();
        }
        // An idle connection ends by a close_notify too, which costs no wait.
        if (after == outcome::keep || limit.expired()) after = outcome::close_without_lingering;
        co_await self.finish(after);
    } catch (const std::bad_alloc&) {
        // Only this connection ends; the others continue.
    }
}

// The header of a proxy precedes the handshake.
kevring::task<std::optional<kevring::tls_stream>> connection::begin_tls() {
    const auto current = worker_.current_configuration();
    if (!current->tls) co_return std::nullopt;  // a reload has closed the listener
    extend_timeout(current->options.head_time);
    if (expects_proxy_header()) {
        const std::optional<std::string> rest = co_await read_proxy_header();
        if (!rest) co_return std::nullopt;
        auto detached = co_await client_.detach();
        if (!detached) co_return std::nullopt;
        const auto first = std::as_bytes(std::span(*rest));
        detached->received.insert(detached->received.begin(), first.begin(), first.end());
        client_ = kevring::socket(worker_.loop(), std::move(*detached));
    } else {
        peer_ = std::make_unique<peer_address>();
        peer_->address = address_of(client_);
    }
    auto accepted = co_await kevring::tls_stream::accept(std::move(client_), *current->tls);
    if (!accepted) {
        if (accepted.error() != std::errc::operation_canceled)  // the loop drains
            worker_.record_handshake_failure(peer_->address, accepted.error());
        co_return std::nullopt;
    }
    ++worker_.counters().handshakes;
    co_return std::move(*accepted);
}

kevring::task<kevring::result<kevring::borrowed_buffer>> connection::receive() {
    if (tls_ != nullptr) co_return co_await tls_->receive();
    co_return co_await client_.receive();
}

kevring::task<kevring::send_result> connection::send(std::string_view text) {
    if (tls_ != nullptr) co_return co_await tls_->send(text);
    co_return co_await client_.send(text);
}

// As send_file() decides it with send_options::allow_growth.
bool connection::is_as_promised(const open_file& file) const noexcept {
    struct stat status{};
    if (worker_.loop().system().stat_file(file.descriptor.number(), status) < 0) return false;
    const std::int64_t modified_ns =
        std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
    const auto byte_count = static_cast<std::uint64_t>(status.st_size);
    return byte_count > file.byte_count ||
           (byte_count == file.byte_count && modified_ns == file.modified_ns);
}

kevring::task<bool> connection::send_encrypted(const open_file& file, byte_range range,
                                               output_buffer& out) {
    constexpr std::uint64_t piece_bytes = std::uint64_t{64} << 10;
    extend_body_timeout(range.count);
    bool continues = co_await flush(out);
    const auto buffer = std::make_unique_for_overwrite<std::byte[]>(
        static_cast<std::size_t>(std::min(range.count, piece_bytes)));
    while (continues && range.count > 0) {
        const std::span<std::byte> piece(
            buffer.get(), static_cast<std::size_t>(std::min(range.count, piece_bytes)));
        const iovec part{piece.data(), piece.size()};
        ssize_t count = worker_.loop().system().read_nowait(file.descriptor.number(), &part, 1,
                                                            static_cast<off_t>(range.first));
        if (count == -EAGAIN || count == -EOPNOTSUPP) {  // not in the page cache: do not block
            kevring::read_operation read(worker_.loop(), file.descriptor, piece, range.first);
            const auto received = co_await read;
            count = received ? static_cast<ssize_t>(*received) : -1;
        }
        // Content-Length cannot be kept, and only the end of the connection can tell the client.
        continues = count > 0 && is_as_promised(file);
        if (!continues) break;
        const auto byte_count = static_cast<std::size_t>(count);
        const kevring::send_result sent = co_await tls_->send(piece.first(byte_count));
        count_small(sent.bytes_sent());
        range.first += sent.bytes_sent();
        range.count -= sent.bytes_sent();
        continues = sent.has_value();
    }
    body_bytes_ -= range.count;  // promised, and not sent
    co_return continues;
}

}  // namespace httpd
