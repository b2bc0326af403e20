#include <kevring/net/tls_stream.hpp>

#include <kevring/net/detail/tls_engine.hpp>
#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/detail/buffer_pool_state.hpp>
#include <kevring/runtime/operations/poll.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <algorithm>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

namespace kevring {
namespace {

using detail::tls_progress;

// Bytes that are encrypted at a time: four records, which one system call sends.
constexpr std::size_t piece_bytes = std::size_t{64} << 10;
// A buffer for output of at most this size is kept by an idle connection.
constexpr std::size_t kept_output_bytes = std::size_t{4} << 10;
// The bound of alerts that wait for a send to end: a peer that does not receive must not make this
// side collect them.
constexpr std::size_t waiting_output_bytes_max = std::size_t{256} << 10;

// Memory that looks like a buffer of the ring's pool.
class owned_bytes {
public:
    owned_bytes(ring& loop, std::size_t bytes_max) : pool_(loop.service<buffer_pool>().state()) {
        constexpr std::size_t large_bytes_min = std::size_t{16} << 10;
        if (bytes_max > large_bytes_min && bytes_max <= pool_.large_buffer_bytes())
            chunk_ = pool_.take_large();
        if (chunk_ == nullptr) chunk_ = detail::spilled_chunk::allocate(bytes_max);
        if (chunk_ == nullptr) throw std::bad_alloc();
        chunk_->byte_count = 0;  // of its previous use
        capacity_ = bytes_max;
    }
    owned_bytes(const owned_bytes&) = delete;
    owned_bytes& operator=(const owned_bytes&) = delete;
    ~owned_bytes() {
        if (chunk_ != nullptr) pool_.recycle(*chunk_);
    }

    std::size_t size() const noexcept { return chunk_->byte_count; }
    std::span<std::byte> room() const noexcept {
        return {chunk_->bytes() + chunk_->byte_count, capacity_ - chunk_->byte_count};
    }
    void commit(std::size_t byte_count) noexcept {
        chunk_->byte_count += static_cast<std::uint32_t>(byte_count);
    }
    borrowed_buffer release() noexcept {
        chunk_->seal();
        return pool_.lend(*std::exchange(chunk_, nullptr));
    }

private:
    detail::buffer_pool_state& pool_;
    detail::spilled_chunk* chunk_ = nullptr;
    std::size_t capacity_ = 0;
};

// The time for which a handshake keeps its place while others wait for one.
constexpr auto kept_place_time = std::chrono::seconds(2);

// True once a server can answer `bytes`: they hold a whole ClientHello, or are none.
bool is_first_message(std::span<const std::byte> bytes) noexcept {
    constexpr std::size_t record_header_bytes = 5;
    constexpr std::size_t message_header_bytes = 4;
    constexpr std::size_t record_bytes_max = std::size_t{16} << 10;
    constexpr std::byte handshake_record{22};
    constexpr std::byte client_hello{1};
    const std::size_t received_bytes = bytes.size();
    std::size_t message_bytes = message_header_bytes;
    std::size_t known_bytes = 0;  // of the message
    while (!bytes.empty() && received_bytes <= record_header_bytes + record_bytes_max) {
        if (bytes[0] != handshake_record) return true;
        if (bytes.size() < record_header_bytes) return false;
        const std::size_t record_bytes =
            std::to_integer<std::size_t>(bytes[3]) << 8 | std::to_integer<std::size_t>(bytes[4]);
        if (record_bytes == 0 || record_bytes > record_bytes_max) return true;
        bytes = bytes.subspan(record_header_bytes);
        const auto part = bytes.first(std::min(record_bytes, bytes.size()));
        if (known_bytes == 0 && !part.empty() && part[0] != client_hello) return true;
        // The three bytes of the length may be in several records.
        const std::size_t header_rest =
            message_header_bytes - std::min(known_bytes, message_header_bytes);
        for (std::size_t i = 0; i < std::min(part.size(), header_rest); ++i)
            if (known_bytes + i > 0)
                message_bytes += std::to_integer<std::size_t>(part[i]) << 8 * (3 - known_bytes - i);
        known_bytes += part.size();
        if (part.size() < record_bytes) return false;
        bytes = bytes.subspan(record_bytes);
        if (known_bytes >= message_header_bytes && known_bytes >= message_bytes) return true;
    }
    return received_bytes > record_header_bytes + record_bytes_max;
}

// Receives the first message of a client. The connection has its bytes then.
task<std::error_code> receive_first_message(socket& connection) {
    ring& loop = connection.loop();
    if (loop.created_by_parent_process())  // the bytes are the parent's
        co_return std::make_error_code(std::errc::operation_not_permitted);
    auto detached = co_await connection.detach();
    if (!detached) co_return detached.error();
    std::vector<std::byte>& received = detached->received;
    while (!is_first_message(received)) {
        constexpr std::size_t piece_size = std::size_t{2} << 10;
        const std::size_t received_bytes = received.size();
        received.resize(received_bytes + piece_size);
        const ssize_t count = loop.system().receive_nowait(
            detached->descriptor.number(), received.data() + received_bytes, piece_size);
        received.resize(received_bytes + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
        if (count == 0) co_return detail::tls_error(tls_errc::truncated);
        if (count == -EAGAIN) {
            poll_operation readable(loop, detached->descriptor, POLLIN);
            const result<std::uint32_t> events = co_await readable;
            if (!events) co_return events.error();
        } else if (count < 0 && count != -EINTR) {
            co_return error_from(static_cast<int>(count)).value();
        }
    }
    connection = socket(loop, std::move(*detached));
    co_return std::error_code();
}

// Receives in the handshake of a server, which holds a place. A client that does not continue must not
// keep others from theirs.
task<result<borrowed_buffer>> receive_in_place(socket& connection, detail::handshake_places& places,
                                               std::int64_t kept_until_ns) {
    cancel_scope& outer = co_await current_scope();
    while (true) {
        if (places.is_awaited() && connection.loop().now_ns() >= kept_until_ns)
            co_return error_from(std::errc::timed_out);
        result<borrowed_buffer> received;
        bool expired = false;
        {
            const auto limit = co_await within(kept_place_time);
            received = co_await connection.receive();
            expired = limit.expired();
        }
        if (received || !expired || outer.stop_requested()) co_return received;
    }
}

}  // namespace

// Moves bytes between the engine and the socket: docs/design/0090-tls.md.
struct tls_stream::state {
    explicit state(socket connected) noexcept : connection(std::move(connected)) {}

    socket connection;
    std::unique_ptr<detail::tls_engine> engine;
    std::vector<std::byte> sending;  // encrypted; the kernel has accepted the first `sent_bytes`
    std::size_t sent_bytes = 0;
    bool receives = false;  // an await is pending
    bool sends = false;
    bool send_ended = false;
    bool truncated = false;
    bool closed = false;

    // The bytes to be sent next, in the order in which they were encrypted.
    std::span<const std::byte> next_output() noexcept {
        if (sent_bytes == sending.size()) {
            sending.clear();
            sent_bytes = 0;
            std::swap(sending, engine->output);
        }
        return std::span(sending).subspan(sent_bytes);
    }

    void release_memory() noexcept {
        if (sending.capacity() > kept_output_bytes && sending.empty()) sending = {};
        if (engine->output.capacity() > kept_output_bytes && engine->output.empty())
            engine->output = {};
    }

    // Sends as much as the socket accepts, unless a send is pending, which sends it as well.
    void send_nowait() noexcept {
        while (!sends) {
            const std::span<const std::byte> bytes = next_output();
            if (bytes.empty()) return;
            iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
            msghdr message{};
            message.msg_iov = &part;
            message.msg_iovlen = 1;
            const ssize_t count =
                connection.loop().system().sendmsg_nowait(connection.native().number(), message, 0);
            if (count <= 0) return;
            sent_bytes += static_cast<std::size_t>(count);
        }
    }

    std::error_code check_receive(cancel_scope& scope) const noexcept {
        if (closed) return std::make_error_code(std::errc::bad_file_descriptor);
        if (receives) return std::make_error_code(std::errc::connection_already_in_progress);
        if (scope.stop_requested()) return std::make_error_code(detail::errc_of(scope.cause()));
        return {};
    }
    std::error_code check_send(cancel_scope& scope) const noexcept {
        if (closed) return std::make_error_code(std::errc::bad_file_descriptor);
        if (sends) return std::make_error_code(std::errc::connection_already_in_progress);
        if (send_ended) return std::make_error_code(std::errc::broken_pipe);
        if (engine->failure) return engine->failure;
        if (scope.stop_requested()) return std::make_error_code(detail::errc_of(scope.cause()));
        return {};
    }

    // Reading may produce an alert, as the answer to a violation or a refused renegotiation.
    tls_progress decrypt(std::span<std::byte> target, std::size_t& byte_count) noexcept {
        const tls_progress progress = engine->decrypt(target, byte_count);
        if (!engine->output.empty()) [[unlikely]] {
            send_nowait();
            if (engine->output.size() > waiting_output_bytes_max && !engine->failure)
                engine->failure = detail::tls_error(tls_errc::protocol_error);
        }
        return progress;
    }
};

// Marks a direction as used by an await.
class tls_stream::busy {
public:
    explicit busy(bool& flag) noexcept : flag_(flag) { flag_ = true; }
    busy(const busy&) = delete;
    busy& operator=(const busy&) = delete;
    ~busy() { flag_ = false; }

private:
    bool& flag_;
};

tls_stream::tls_stream(std::unique_ptr<state> connected) noexcept : state_(std::move(connected)) {}
tls_stream::tls_stream(tls_stream&& other) noexcept = default;
tls_stream& tls_stream::operator=(tls_stream&& other) noexcept = default;
tls_stream::~tls_stream() = default;

task<result<tls_stream>> tls_stream::connect(socket connected, tls_context context,
                                             std::string host_name) {
    return handshake(std::move(connected), std::move(context), std::move(host_name));
}

task<result<tls_stream>> tls_stream::accept(socket accepted, tls_context context) {
    return handshake(std::move(accepted), std::move(context), std::string());
}

task<result<tls_stream>> tls_stream::handshake(socket connection, tls_context context,
                                               std::string host_name) {
    auto self = std::make_unique<state>(std::move(connection));
    const std::error_code failure = co_await shake_hands(*self, host_name, context);
    if (!failure) co_return tls_stream(std::move(self));
    const bool has_alert = self->engine && self->engine->failure && !self->next_output().empty();
    if (has_alert) {
        self->send_nowait();
        // A peer that still sends must not be answered by a reset, which would discard the alert.
        constexpr auto linger_timeout = std::chrono::milliseconds(250);
        co_await self->connection.close(linger_timeout);
    }
    co_return tl::unexpected(failure);
}

task<std::error_code> tls_stream::shake_hands(state& self, const std::string& host_name,
                                              const tls_context& context) {
    detail::tls_context_state& common = context.state();
    const auto limit = co_await within(common.handshake_timeout);
    // A client that sends nothing, or less than its first message, needs no place, so that it cannot
    // keep others from theirs.
    if (!common.sends_first()) {
        const std::error_code failure = co_await receive_first_message(self.connection);
        if (failure) co_return failure;
    }
    detail::handshake_places& places = *common.handshakes;
    places.set_bound(common.handshake_count_max, common.version);
    const result<void> acquired = co_await places.acquire();
    if (!acquired) co_return acquired.error();
    struct held_place {
        detail::handshake_places& places;
        ~held_place() { places.release(); }
    };
    const held_place held{places};
    const std::int64_t kept_until_ns =
        common.sends_first() ? never_ns : add_ns(self.connection.loop().now_ns(), kept_place_time);
    auto engine = common.make_engine(context.state_, host_name);
    if (!engine) co_return engine.error();
    self.engine = std::move(*engine);
    while (true) {
        const tls_progress progress = self.engine->handshake();
        if (progress == tls_progress::failed) co_return self.engine->failure;
        // A close_notify before the handshake is complete.
        if (progress == tls_progress::ended) co_return detail::tls_error(tls_errc::truncated);
        const std::error_code failure = co_await flush(self);
        if (failure) co_return failure;
        if (progress == tls_progress::done) co_return std::error_code();
        auto received = co_await receive_in_place(self.connection, places, kept_until_ns);
        if (!received) co_return received.error();
        self.truncated = received->empty();
        if (self.truncated) co_return detail::tls_error(tls_errc::truncated);
        self.engine->input = std::move(*received);
    }
}

// Sends all that is encrypted. The rest of an interrupted send precedes what follows it.
task<std::error_code> tls_stream::flush(state& self) {
    while (true) {
        const std::span<const std::byte> bytes = self.next_output();
        if (bytes.empty()) break;
        const send_result sent = co_await self.connection.send(bytes);
        self.sent_bytes += sent.bytes_sent();
        if (!sent) co_return sent.error();
    }
    self.release_memory();
    co_return std::error_code();
}

task<result<borrowed_buffer>> tls_stream::receive() {
    state& self = *state_;
    cancel_scope& scope = co_await current_scope();
    if (const std::error_code refused = self.check_receive(scope))
        co_return tl::unexpected(refused);
    const busy receiving(self.receives);
    while (true) {
        const std::size_t bytes_max = self.engine->decryptable_bytes_max();
        tls_progress progress = tls_progress::done;
        if (bytes_max > 0) {
            owned_bytes decrypted(self.connection.loop(), bytes_max);
            while (progress == tls_progress::done && !decrypted.room().empty()) {
                std::size_t byte_count = 0;
                progress = self.decrypt(decrypted.room(), byte_count);
                decrypted.commit(byte_count);
            }
            if (decrypted.size() > 0) co_return decrypted.release();
        } else {
            // An end that was received earlier is reported again.
            std::byte none{};
            std::size_t byte_count = 0;
            progress = self.decrypt({&none, 1}, byte_count);
        }
        if (progress == tls_progress::ended) co_return borrowed_buffer();
        if (progress == tls_progress::failed) co_return tl::unexpected(self.engine->failure);
        if (self.truncated) co_return tl::unexpected(detail::tls_error(tls_errc::truncated));
        auto received = co_await self.connection.receive();
        if (!received) co_return tl::unexpected(received.error());
        self.truncated = received->empty();
        self.engine->input = std::move(*received);
    }
}

task<result<std::size_t>> tls_stream::receive(std::span<std::byte> buffer) {
    state& self = *state_;
    cancel_scope& scope = co_await current_scope();
    if (buffer.empty()) co_return error_from(std::errc::invalid_argument);
    if (const std::error_code refused = self.check_receive(scope))
        co_return tl::unexpected(refused);
    const busy receiving(self.receives);
    while (true) {
        std::size_t all_bytes = 0;
        tls_progress progress = tls_progress::done;
        while (progress == tls_progress::done && all_bytes < buffer.size()) {
            std::size_t byte_count = 0;
            progress = self.decrypt(buffer.subspan(all_bytes), byte_count);
            all_bytes += byte_count;
        }
        if (all_bytes > 0) co_return all_bytes;
        if (progress == tls_progress::ended) co_return std::size_t{0};
        if (progress == tls_progress::failed) co_return tl::unexpected(self.engine->failure);
        if (self.truncated) co_return tl::unexpected(detail::tls_error(tls_errc::truncated));
        auto received = co_await self.connection.receive();
        if (!received) co_return tl::unexpected(received.error());
        self.truncated = received->empty();
        self.engine->input = std::move(*received);
    }
}

task<send_result> tls_stream::send(std::span<const std::byte> bytes) {
    state& self = *state_;
    cancel_scope& scope = co_await current_scope();
    if (const std::error_code refused = self.check_send(scope))
        co_return send_result(tl::unexpected(refused), 0);
    const busy sending(self.sends);
    // The rest of an interrupted send comes first: else each stopped send would add to it.
    if (!self.next_output().empty()) {
        std::error_code failure = co_await flush(self);
        if (self.closed) failure = std::make_error_code(std::errc::operation_canceled);
        if (failure) co_return send_result(tl::unexpected(failure), 0);
    }
    std::size_t encrypted_bytes = 0;
    while (true) {
        const auto piece = bytes.subspan(encrypted_bytes)
                               .first(std::min(piece_bytes, bytes.size() - encrypted_bytes));
        if (!self.engine->encrypt(piece))
            co_return send_result(tl::unexpected(self.engine->failure), encrypted_bytes);
        encrypted_bytes += piece.size();
        std::error_code failure = co_await flush(self);
        // close() may come between two pieces.
        if (self.closed && (failure || encrypted_bytes < bytes.size()))
            failure = std::make_error_code(std::errc::operation_canceled);
        if (failure) co_return send_result(tl::unexpected(failure), encrypted_bytes);
        if (encrypted_bytes == bytes.size()) co_return send_result(encrypted_bytes);
    }
}

task<send_result> tls_stream::send_parts(std::vector<iovec> parts) {
    std::size_t bytes_sent = 0;
    for (const iovec& part : parts) {
        const send_result sent = co_await send(detail::bytes_of_part(part));
        bytes_sent += sent.bytes_sent();
        if (!sent) co_return send_result(tl::unexpected<std::error_code>(sent.error()), bytes_sent);
    }
    co_return send_result(bytes_sent);
}

task<send_result> tls_stream::send(std::string_view text) {
    return send(std::as_bytes(std::span(text)));
}

task<result<void>> tls_stream::shutdown_send() {
    state& self = *state_;
    if (self.closed) co_return error_from(std::errc::bad_file_descriptor);
    if (self.sends) co_return error_from(std::errc::connection_already_in_progress);
    if (!std::exchange(self.send_ended, true)) self.engine->end_sending();
    {
        const busy sending(self.sends);
        const std::error_code failure = co_await flush(self);
        if (failure) co_return tl::unexpected(failure);
    }
    if (self.closed) co_return error_from(std::errc::operation_canceled);
    if (self.connection.loop().created_by_parent_process())
        co_return error_from(std::errc::operation_not_permitted);
    // Called directly: it never waits, and the ring gives every IORING_OP_SHUTDOWN to a worker.
    const int answer =
        self.connection.loop().system().shutdown(self.connection.native().number(), SHUT_WR);
    if (answer < 0) co_return error_from(answer);
    co_return result<void>();
}

task<void> tls_stream::close(clamped_duration linger_timeout) {
    return end(*state_, linger_timeout, true);
}

task<void> tls_stream::close_without_lingering() {
    return end(*state_, std::chrono::seconds(2), false);
}

task<void> tls_stream::end(state& self, clamped_duration linger_timeout, bool lingers) {
    if (std::exchange(self.closed, true)) co_return;
    const auto limit = co_await within(linger_timeout);
    if (!self.sends) {
        if (!std::exchange(self.send_ended, true)) self.engine->end_sending();
        self.send_nowait();  // also where the scope was stopped: a close_notify costs no wait
        if (!self.next_output().empty()) {
            const busy sending(self.sends);  // first: a pending receive sends nothing in between
            const std::error_code failure = co_await flush(self);
            static_cast<void>(failure);  // the connection is closed all the same
        }
    }
    if (lingers)
        co_await self.connection.close(linger_timeout);
    else
        co_await self.connection.close_without_lingering();
}

result<void> tls_stream::set(const socket_options& options) noexcept {
    return state_->connection.set(options);
}
result<endpoint> tls_stream::local() const noexcept { return state_->connection.local(); }
result<endpoint> tls_stream::peer() const noexcept { return state_->connection.peer(); }
std::string_view tls_stream::protocol() const noexcept { return state_->engine->protocol(); }
std::string_view tls_stream::version() const noexcept { return state_->engine->version(); }
std::string_view tls_stream::cipher() const noexcept { return state_->engine->cipher(); }
std::string_view tls_stream::server_name() const noexcept { return state_->engine->server_name(); }
bool tls_stream::resumed() const noexcept { return state_->engine->resumed(); }
ring& tls_stream::loop() const noexcept { return state_->connection.loop(); }
fd_ref tls_stream::native() const noexcept { return state_->connection.native(); }

}  // namespace kevring
