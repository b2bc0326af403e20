#include "connection.hpp"

#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/operations/read.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <span>
#include <utility>

#include <sys/socket.h>
#include <sys/uio.h>

namespace httpd {
namespace {

// A body up to here goes out together with its head, in one send.
constexpr std::uint64_t small_body_bytes = 32 * 1024;
// A head of ours is smaller than this, whatever the file.
constexpr std::size_t head_room = 2 * 1024;

constexpr std::string_view server_line = "Server: kevring\r\n";
constexpr std::string_view allow_line = "Allow: GET, HEAD, OPTIONS\r\n";

std::string_view as_text(const kevring::borrowed_buffer& buffer) noexcept {
    return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

// Said without waiting: a client that has been too slow to ask may be too slow to listen.
void say_timed_out(kevring::fd_ref client) noexcept {
    constexpr std::string_view text =
        "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    static_cast<void>(
        !::send(client.number(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
}

}  // namespace

void patience::fired(kevring::timer_node& node) noexcept {
    auto& self = static_cast<patience&>(node);
    if (self.deadline_ns_ > self.on_.now_ns())
        self.on_.timers().arm(self, self.deadline_ns_);
    else
        self.ends_.request_stop(kevring::stop_cause::deadline);
}

kevring::task<void> connection::serve() {
    auto limit = co_await kevring::within(std::chrono::nanoseconds::max());
    scope_ = &limit.scope();
    patience patient(of_.on(), limit.scope());
    patience_ = &patient;
    of_.add(*this);
    bool graceful = false;
    try {
        while (true) {
            idle_ = true;
            if (of_.draining()) break;
            allow(of_.options().idle_time);
            auto got = co_await client_.receive();
            if (!got || got->empty()) break;
            idle_ = false;
            const outcome after = co_await exchange(std::move(*got));
            graceful = after == outcome::close;
            if (graceful) break;
        }
    } catch (...) {
        // Out of memory: this client is let go, the others are served on.
    }
    of_.remove(*this);
    scope_ = nullptr;
    patience_ = nullptr;
    if (graceful && !limit.expired()) co_await client_.close();
}

void connection::drain() noexcept {
    last_ = true;
    if (idle_ && scope_ != nullptr) scope_->request_stop();
}

void connection::allow(std::chrono::milliseconds time) noexcept {
    patience_->set(kevring::add_ns(of_.on().now_ns(), time));
}

// Answers what is in `first`, and what follows until a request ends where the bytes end. Responses
// to requests that came together go out together.
kevring::task<connection::outcome> connection::exchange(kevring::borrowed_buffer first) {
    request_parser parser;
    std::string carried;  // a head that came in pieces
    std::string_view input = as_text(first);
    outbox out(of_);
    while (true) {
        parser.reset();
        while (parser.parse(input) == parse_state::incomplete) {
            if (!out.empty()) {
                const bool sent = co_await flush(out);
                if (!sent) co_return outcome::close;
            }
            if (input.empty()) co_return last_ ? outcome::close : outcome::keep;
            if (carried.empty()) {
                carried = input;
                first.reset();  // a slow client holds no buffer of the pool
                allow(of_.options().head_time);
            } else if (input.size() != carried.size()) {
                carried.erase(0, carried.size() - input.size());
            }
            const auto more = co_await client_.receive();
            if (!more && more.error() == std::errc::timed_out) say_timed_out(client_.native());
            if (!more || more->empty()) co_return outcome::close;
            carried += as_text(*more);
            input = carried;
        }
        if (parser.state() == parse_state::refused) {
            co_await refuse(status_of(parser.why()), parser.head(), out);
            co_return outcome::close;
        }
        const std::size_t head_bytes = parser.head().size();
        const outcome after = co_await answer(parser.head(), out);
        if (after == outcome::close) {
            co_await flush(out);
            co_return outcome::close;
        }
        input.remove_prefix(head_bytes);
    }
}

kevring::task<void> connection::refuse(unsigned status, const request_head& head, outbox& out) {
    const bool roomy = co_await make_room(out, short_response_bytes);
    if (!roomy) co_return;
    short_response what;
    what.status = status;
    what.date = of_.date();
    append_short(out, what);
    note(head, status, 0);
    co_await flush(out);
}

kevring::task<connection::outcome> connection::answer(const request_head& head, outbox& out) {
    const bool roomy = co_await make_room(out, head_room);
    if (!roomy) co_return outcome::close;
    // A body that nobody asked for is not read: the connection ends with the response.
    const bool keep = head.keep_alive() && !head.has_body() && !last_;
    short_response what;
    what.date = of_.date();
    what.keep_alive = keep;
    what.minor_version = head.minor_version();
    what.head_only = head.method() == request_method::head;
    std::string location;

    const bool wants_file =
        head.method() == request_method::get || head.method() == request_method::head;
    if (wants_file) {
        std::shared_ptr<const open_file> file;
        const auto* const known = of_.cache().find(head.path());
        if (known != nullptr && of_.shared().files.is_current(**known)) {
            file = *known;
            what.status = 200;
        } else {
            resource found = co_await of_.shared().files.find(of_.on(), head.path());
            what.status = found.status;
            file = std::move(found.file);
            location = std::move(found.location);
            if (file) of_.cache().put(head.path(), file);
        }
        if (file) {
            const bool sent = co_await send_file(head, *file, out, keep);
            co_return sent&& keep ? outcome::keep : outcome::close;
        }
        if (what.status == 301) {
            if (head.has_query()) location.append("?").append(head.query());
            location = "Location: " + location + "\r\n";
            what.lines = location;
        }
    } else if (head.method() == request_method::options) {
        what.status = 204;
        what.lines = allow_line;
    } else if (head.method() == request_method::unknown) {
        what.status = 501;
    } else {
        what.status = 405;
        what.lines = allow_line;
    }
    append_short(out, what);
    note(head, what.status, 0);
    co_return keep ? outcome::keep : outcome::close;
}

kevring::task<bool> connection::send_file(const request_head& head, const open_file& file,
                                          outbox& out, bool keep) {
    response_head made(out.space(), 200);
    made.lines(server_line).lines("Date: ").lines(of_.date()).lines("\r\n").lines(file.fields);
    const std::string_view text = made.connection(keep, head.minor_version()).finish();
    out.added(text.size());
    const bool with_body = head.method() == request_method::get;
    note(head, 200, with_body ? file.byte_count : 0);
    if (!with_body || file.byte_count == 0) co_return true;
    if (file.byte_count <= small_body_bytes && file.byte_count > out.room()) {
        // Earlier responses have filled the block: they go first, and take this head along.
        const bool sent = co_await flush(out);
        if (!sent) co_return false;
    }
    if (file.byte_count > small_body_bytes) {
        // As long as the slowest client that is allowed would take.
        const std::uint64_t rate = of_.options().send_bytes_per_second_min;
        const std::uint64_t seconds = rate == 0 ? 1'000'000 : file.byte_count / rate;
        allow(of_.options().idle_time + std::chrono::seconds(seconds));
    }
    co_return co_await send_body(file, 0, out);
}

// Appends the body, sending whenever the block is full; the last piece stays for the next flush.
kevring::task<bool> connection::send_body(const open_file& file, std::uint64_t offset,
                                          outbox& out) {
    while (offset < file.byte_count) {
        if (out.room() == 0) {
            const bool sent = co_await flush(out);
            if (!sent) co_return false;
        }
        const std::span<char> space = out.space();
        const std::size_t wanted = static_cast<std::size_t>(
            std::min<std::uint64_t>(space.size(), file.byte_count - offset));
        const iovec part{space.data(), wanted};
        ssize_t count = of_.on().system().read_nowait(file.descriptor.number(), &part, 1,
                                                      static_cast<off_t>(offset));
        if (count == -EAGAIN || count == -EOPNOTSUPP) {  // not in memory: the loop does not wait
            kevring::read_operation read(of_.on(), file.descriptor,
                                         std::as_writable_bytes(space.first(wanted)), offset);
            const auto got = co_await read;
            count = got ? static_cast<ssize_t>(*got) : -1;
        }
        // The file has shrunk, or cannot be read: a length has been promised that cannot be kept,
        // and only the end of the connection can say so.
        if (count <= 0) co_return false;
        out.added(static_cast<std::size_t>(count));
        offset += static_cast<std::uint64_t>(count);
    }
    co_return true;
}

kevring::task<bool> connection::flush(outbox& out) {
    const auto sent = co_await client_.send(out.bytes());
    const bool all = sent && *sent == out.bytes().size();
    out.clear();
    co_return all;
}

kevring::task<bool> connection::make_room(outbox& out, std::size_t byte_count) {
    if (out.room() >= byte_count) co_return true;
    co_return co_await flush(out);
}

void connection::append_short(outbox& out, const short_response& what) {
    out.added(write_short_response(out.space(), what).size());
}

void connection::note(const request_head&, unsigned, std::uint64_t) {}

}  // namespace httpd
