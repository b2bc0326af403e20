#include "connection.hpp"

#include "examples/httpd/http/accept_encoding.hpp"
#include "examples/httpd/http/body_reader.hpp"
#include "examples/httpd/http/conditions.hpp"

#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/sendfile/send_file.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <new>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>

namespace httpd {
namespace {

constexpr std::string_view end_of_head = "\r\n\r\n";
constexpr std::string_view allow_line = "Allow: GET, HEAD, OPTIONS\r\n";

std::string_view as_text(const kevring::borrowed_buffer& buffer) noexcept {
    return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

// What no file holds by chance, so that the parts of a response can be told apart.
std::string new_boundary() {
    std::array<unsigned char, 16> bytes{};
    if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
        throw std::system_error(errno, std::system_category(), "getrandom");
    std::string text;
    for (const unsigned char byte : bytes) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return text;
}

// Said without waiting: a client that has been too slow to ask may be too slow to listen.
void send_timed_out(kevring::fd_ref client) noexcept {
    constexpr std::string_view text =
        "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    static_cast<void>(
        !::send(client.number(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
}

}  // namespace

// The frame of this coroutine is what an idle connection costs: the rest is in frames of its own,
// which are there only while there is something to do.
kevring::task<void> connection::serve(worker& of, kevring::socket client) {
    auto limit = co_await kevring::within(std::chrono::nanoseconds::max());
    connection self(of, std::move(client), limit.scope());
    outcome after = outcome::keep;
    try {
        while (!of.draining()) {
            self.idle_ = true;
            self.extend_timeout(of.options().idle_time);
            auto got = co_await self.client_.receive();
            if (!got || got->empty()) co_return;
            self.idle_ = false;
            after = co_await self.handle_request(std::move(*got));
            if (after != outcome::keep) break;
        }
        if (after != outcome::keep && !limit.expired()) co_await self.finish(after);
    } catch (const std::bad_alloc&) {
        // This client is let go, the others are served on.
    }
}

kevring::task<void> connection::finish(outcome after) {
    return after == outcome::close_without_lingering ? client_.hang_up() : client_.close();
}

void connection::drain() noexcept {
    last_ = true;
    if (idle_) scope_.request_stop();
}

void connection::extend_timeout(std::chrono::milliseconds time) noexcept {
    timeout_.set(kevring::add_ns(worker_.loop().recent_ns(), time));
}

// Answers what is in `first`, and what follows until a request ends where the bytes end. Responses
// to requests that came together go out together.
kevring::task<connection::outcome> connection::handle_request(kevring::borrowed_buffer first) {
    request_parser parser;
    std::string carried;  // a head that came in pieces
    std::string_view input = as_text(first);
    output_buffer out(worker_);
    std::shared_ptr<const configuration> with;  // an idle connection holds none
    rest_of_file begun;
    while (true) {
        if (with != worker_.current_configuration()) with = worker_.current_configuration();
        configuration_ = with.get();
        while (input.empty() || parser.parse(input) == parse_state::incomplete) {
            if (!out.empty()) {
                const auto sent =
                    co_await client_.send(out.bytes());  // as flush(), without a frame
                if (!sent) co_return outcome::close;
                out.clear();
            }
            if (input.empty()) co_return last_ ? outcome::close : outcome::keep;
            if (carried.empty()) {
                carried = input;
                first.reset();  // a slow client holds no buffer of the pool
                extend_timeout(configuration_->options.head_time);
            } else if (input.size() != carried.size()) {
                carried.erase(0, carried.size() - input.size());
                extend_timeout(configuration_->options.head_time);  // another head
            }
            const auto more = co_await client_.receive();
            if (!more && more.error() == std::errc::timed_out) send_timed_out(client_.native());
            if (!more || more->empty()) co_return outcome::close;
            carried += as_text(*more);
            input = carried;
        }
        begin_timing();
        if (parser.state() == parse_state::refused) {
            co_await send_error(status_of(parser.error()), parser.head(), out);
            co_return outcome::close;
        }
        const request_head& head = parser.head();
        std::string_view rest = input.substr(head.size());
        // A body that nobody wants is read over, so that the next request can be found.
        kevring::borrowed_buffer further;
        if (head.has_body()) {
            body_reader body(head, configuration_->options.body_bytes_max);
            rest.remove_prefix(body.read(rest));
            bool asked = head.expects() != expectation::continue_100 || !rest.empty();
            while (body.state() == body_state::incomplete) {
                if (!asked) {
                    const bool said = co_await append(continue_response, out);
                    if (!said) co_return outcome::close;
                    asked = true;
                }
                if (!out.empty()) {
                    const bool sent = co_await flush(out);
                    if (!sent) co_return outcome::close;
                }
                extend_timeout(configuration_->options.idle_time);
                auto more = co_await client_.receive();
                if (!more || more->empty()) co_return outcome::close;
                further = std::move(*more);
                rest = as_text(further);
                rest.remove_prefix(body.read(rest));
            }
            if (body.state() != body_state::complete) {
                const unsigned status = body.state() == body_state::too_large ? 413 : 400;
                co_await send_error(status, head, out);
                co_return outcome::close;
            }
        }
        if (head.expects() == expectation::unsupported) {
            co_await send_error(417, head, out);
            co_return outcome::close;
        }
        const bool keep = head.keep_alive() && !last_ && !worker_.retiring();
        outcome after = keep ? outcome::keep : outcome::close;
        fast_path_result done = try_fast_path(head, out, keep, begun);
        while (done == fast_path_result::later) {
            kevring::send_budget turn(worker_.loop());
            co_await turn;
            done = try_fast_path(head, out, keep, begun);
        }
        if (done == fast_path_result::nothing) {
            after = co_await respond(head, out, keep);
        } else if (done == fast_path_result::a_part) {
            const bool sent = co_await send_large(begun.of->plain, begun.range, out);
            if (!sent) after = outcome::close;
            begun.of.reset();
        } else if (done == fast_path_result::failed) {
            after = outcome::close;
        }
        finished(head);
        if (after == outcome::close) {
            co_await flush_last(out);
            // Behind a body, some clients send a line end that nobody counts, and others send one
            // that they have not announced. Of a large response, a reset would take what is left.
            const bool is_plain =
                head.method() == request_method::get || head.method() == request_method::head;
            const bool is_silent = !head.keep_alive() && is_plain && !head.has_body() &&
                                   rest.empty() && body_bytes_ <= small_body_bytes;
            co_return is_silent ? outcome::close_without_lingering : outcome::close;
        }
        if (further.data() != nullptr) {
            first = std::move(further);
            carried.clear();
        }
        input = rest;
        if (!input.empty()) parser.reset();
    }
}

kevring::task<void> connection::send_error(unsigned status, const request_head& head,
                                           output_buffer& out) {
    const bool said = co_await send_short_response(head, status, false, std::string_view(), out);
    finished(head);
    if (said) co_await flush_last(out);
}

kevring::task<connection::outcome> connection::respond(const request_head& head, output_buffer& out,
                                                       bool keep) {
    const bool roomy = co_await make_room(out, head_room);
    if (!roomy) co_return outcome::close;
    const outcome after = keep ? outcome::keep : outcome::close;
    unsigned status = 500;
    std::string lines;
    if (head.method() == request_method::get || head.method() == request_method::head) {
        // A reload between the head and here: what is cached is the next configuration's.
        const bool current_configuration = configuration_ == worker_.current_configuration().get();
        if (const auto* const known =
                current_configuration ? worker_.cached(head.path()) : nullptr) {
            const std::shared_ptr<const served_file> file = known->file;  // may leave the cache
            const bool sent = co_await respond_file(head, *file, out, keep);
            if (sent) keep_content(head, *file, out);
            co_return sent ? after : outcome::close;
        }
        const resource found = co_await configuration_->files.find(worker_.loop(), head.path());
        if (found.file) {
            if (configuration_ == worker_.current_configuration().get())
                worker_.cache(head.path(), found.file);
            const bool sent = co_await respond_file(head, *found.file, out, keep);
            co_return sent ? after : outcome::close;
        }
        if (!found.page.empty()) {
            const bool sent = co_await respond_page(head, found.page, out, keep);
            co_return sent ? after : outcome::close;
        }
        status = found.status;
        if (status == 301) {
            lines = "Location: " + found.location;
            if (head.has_query()) lines.append("?").append(head.query());
            lines += "\r\n";
        }
    } else if (head.method() == request_method::options) {
        status = 204;
        lines = allow_line;
    } else if (head.method() == request_method::unknown) {
        status = 501;
    } else {
        status = 405;
        lines = allow_line;
    }
    const bool sent = co_await send_short_response(head, status, keep, lines, out);
    co_return sent ? after : outcome::close;
}

kevring::task<bool> connection::respond_file(const request_head& head, const served_file& served,
                                             output_buffer& out, bool keep) {
    const open_file* file = &served.plain;
    std::array<char, 1024> scratch;
    if (served.available != 0) {
        if (const auto accepted = head.list(known_field::accept_encoding, scratch))
            file = &served.variant(accepted_codings(*accepted).choose(served.available));
    }
    if (!has_condition_or_range(head)) [[likely]]
        co_return co_await send_whole(head, *file, out, keep);

    const validators known{.entity_tag = file->lines.entity_tag(),
                           .modified_second = file->modified_second()};
    const std::int64_t now = std::time(nullptr);
    const condition_outcome met = evaluate(condition_fields_of(head, scratch), known, true, now);
    if (met == condition_outcome::precondition_failed) {
        co_return co_await send_short_response(head, 412, keep, std::string_view(), out);
    }
    if (met == condition_outcome::not_modified) {
        response_head made = begin_head(out, 304);
        made.lines(file->lines.validators()).connection(keep, head.minor_version());
        out.commit(made.finish().size());
        record_result(304, 0);
        co_return true;
    }
    const auto wanted = head.single(known_field::range);
    if (wanted && head.method() == request_method::get && if_range_matches(head, known, now)) {
        const byte_ranges ranges(*wanted, file->byte_count);
        if (ranges.outcome() == range_outcome::partial)
            co_return co_await send_ranges(head, *file, ranges, out, keep);
        if (ranges.outcome() == range_outcome::unsatisfiable) {
            const std::string line =
                "Content-Range: bytes */" + std::to_string(file->byte_count) + "\r\n";
            co_return co_await send_short_response(head, 416, keep, line, out);
        }
    }
    co_return co_await send_whole(head, *file, out, keep);
}

// What is not in memory, or on a file system that does not say so, was read by the ring.
void connection::keep_content(const request_head& head, const served_file& of,
                              const output_buffer& out) {
    const std::uint64_t byte_count = of.plain.byte_count;
    const bool is_last_in_box = head.method() == request_method::get && of.available == 0 &&
                                !has_condition_or_range(head) && byte_count <= small_body_bytes &&
                                out.size() >= byte_count;
    if (!is_last_in_box) return;
    const std::string_view sent = out.bytes();
    worker_.keep_content(head.path(), of,
                         sent.substr(sent.size() - static_cast<std::size_t>(byte_count)));
}

kevring::task<bool> connection::send_whole(const request_head& head, const open_file& file,
                                           output_buffer& out, bool keep) {
    put_whole_head(head, file, out, keep);
    const byte_range all{.first = 0, .count = body_bytes_};  // of HEAD: none
    return send_bytes(file, all, out);
}

void connection::put_whole_head(const request_head& head, const open_file& file, output_buffer& out,
                                bool keep) {
    response_head made = begin_head(out, 200);
    made.lines(file.lines.whole()).connection(keep, head.minor_version());
    out.commit(made.finish().size());
    record_result(200, head.method() == request_method::get ? file.byte_count : 0);
}

kevring::task<bool> connection::send_ranges(const request_head& head, const open_file& file,
                                            const byte_ranges& ranges, output_buffer& out,
                                            bool keep) {
    const std::span<const byte_range> parts = ranges.ranges();
    const bool several = parts.size() > 1;
    const std::string boundary = several ? new_boundary() : std::string();
    const multipart_plan plan(parts, file.byte_count, file.media_type, boundary);
    const std::uint64_t content_bytes = several ? plan.content_bytes() : parts[0].count;

    response_head made = begin_head(out, 206);
    if (several) {
        made.field("Content-Type", "multipart/byteranges; boundary=" + boundary);
    } else {
        made.lines(file.lines.content());
        made.content_range(parts[0].first, parts[0].count, file.byte_count);
    }
    made.field("Content-Length", content_bytes);
    made.lines(file.lines.validators()).connection(keep, head.minor_version());
    out.commit(made.finish().size());
    record_result(206, content_bytes);

    for (std::size_t index = 0; index < parts.size(); ++index) {
        if (several) {
            const bool roomy = co_await make_room(out, plan.head_bytes_max());
            if (!roomy) co_return false;
            out.commit(plan.part_head(index, out.prepare()).size());
        }
        const bool sent = co_await send_bytes(file, parts[index], out);
        if (!sent) co_return false;
    }
    if (!several) co_return true;
    const bool roomy = co_await make_room(out, plan.head_bytes_max());
    if (!roomy) co_return false;
    out.commit(plan.closing(out.prepare()).size());
    co_return true;
}

// A small piece is appended, and goes out with what follows; a large one takes along what waits.
kevring::task<bool> connection::send_bytes(const open_file& file, byte_range range,
                                           output_buffer& out) {
    return range.count > small_body_bytes ? send_large(file, range, out)
                                          : send_small(file, range, out);
}

kevring::task<bool> connection::send_small(const open_file& file, byte_range range,
                                           output_buffer& out) {
    const bool roomy = co_await make_room(out, static_cast<std::size_t>(range.count));
    if (!roomy) co_return false;
    count_small(range.count);
    while (range.count > 0) {
        ssize_t count = read_nowait(file, range, out);
        if (count == -EAGAIN || count == -EOPNOTSUPP) {  // not in memory: the loop does not wait
            const std::span<char> prepare =
                out.prepare().first(static_cast<std::size_t>(range.count));
            kevring::read_operation read(worker_.loop(), file.descriptor,
                                         std::as_writable_bytes(prepare), range.first);
            const auto got = co_await read;
            count = got ? static_cast<ssize_t>(*got) : -1;
            if (count > 0) out.commit(static_cast<std::size_t>(count));
        }
        // The file has shrunk, or cannot be read: a length has been promised that cannot be kept,
        // and only the end of the connection can say so.
        if (count <= 0) co_return false;
        range.first += static_cast<std::uint64_t>(count);
        range.count -= static_cast<std::uint64_t>(count);
    }
    co_return true;
}

kevring::task<bool> connection::send_large(const open_file& file, byte_range range,
                                           output_buffer& out) {
    extend_body_timeout(range.count);
    const kevring::send_options with = large_options(file, out);
    const kevring::file_range wanted{.offset = range.first, .count = range.count};
    const kevring::send_report report = co_await kevring::send_file(
        worker_.loop(), client_.native(), file.descriptor, wanted, with);
    out.clear();
    count_large(report);
    body_bytes_ -= range.count - report.file_bytes;  // what was promised and not sent
    co_return !report.error;
}

kevring::send_options connection::large_options(const open_file& file,
                                                const output_buffer& out) const noexcept {
    kevring::send_options with;
    with.header = out.bytes();
    with.expected =
        kevring::file_version{.byte_count = file.byte_count, .modified_ns = file.modified_ns};
    with.state_cache = file.memo.get();
    with.force_copy = configuration_->options.force_copy;
    with.is_nonblocking = nonblocking_;
    return with;
}

void connection::count_large(const kevring::send_report& report) noexcept {
    for (std::size_t path = 0; path < report.path_bytes.size(); ++path)
        worker_.counters().path_bytes[path] += report.path_bytes[path];
    nonblocking_ |= report.bytes_by(kevring::send_path::sendfile) > 0;  // it has set it
}

kevring::task<bool> connection::flush(output_buffer& out) {
    if (out.empty()) co_return true;
    const auto sent = co_await client_.send(out.bytes());
    out.clear();
    co_return sent.has_value();
}

// What follows is the end of the connection, at once: the kernel is told to wait for it (MSG_MORE),
// and sends both in one segment.
kevring::task<void> connection::flush_last(output_buffer& out) {
    if (!out.empty()) static_cast<void>(co_await client_.send(out.bytes(), MSG_MORE));
    out.clear();
}

kevring::task<bool> connection::make_room(output_buffer& out, std::size_t byte_count) {
    if (out.room() >= byte_count) co_return true;
    co_return co_await flush(out);
}

kevring::task<bool> connection::append(std::string_view text, output_buffer& out) {
    const bool roomy = co_await make_room(out, text.size());
    if (!roomy) co_return false;
    out.append(text);
    co_return true;
}

response_head connection::begin_head(output_buffer& out, unsigned status) {
    response_head made(out.prepare(), status);
    made.lines(configuration_->answers.lines()).lines("Date: ").lines(worker_.date()).lines("\r\n");
    return made;
}

kevring::task<bool> connection::send_short_response(const request_head& head, unsigned status,
                                                    bool keep, std::string_view lines,
                                                    output_buffer& out) {
    const custom_responses& own = configuration_->answers;
    const std::string all_lines = std::string(own.lines()).append(lines);
    short_response what;
    what.status = status;
    what.date = worker_.date();
    what.lines = all_lines;
    what.keep_alive = keep;
    what.minor_version = head.minor_version();
    what.head_only = head.method() == request_method::head;
    what.body = own.page(status);
    const std::size_t room = short_response_bytes + all_lines.size() + what.body.size();
    const bool roomy = co_await make_room(out, room);
    if (!roomy) co_return false;
    const std::string_view written = write_short_response(out.prepare(), what);
    out.commit(written.size());
    const std::size_t head_bytes = written.find(end_of_head) + end_of_head.size();
    record_result(status, written.size() - head_bytes);
    co_return true;
}

kevring::task<bool> connection::respond_page(const request_head& head, std::string_view page,
                                             output_buffer& out, bool keep) {
    const bool roomy = co_await make_room(out, head_room);
    if (!roomy) co_return false;
    response_head made = begin_head(out, 200);
    made.lines("Content-Type: text/html; charset=utf-8\r\nCache-Control: no-cache\r\n");
    made.field("Content-Length", page.size()).connection(keep, head.minor_version());
    out.commit(made.finish().size());
    const bool with_body = head.method() == request_method::get;
    record_result(200, with_body ? page.size() : 0);
    if (!with_body) co_return true;
    extend_body_timeout(page.size());
    while (!page.empty()) {
        if (out.room() == 0) {
            const bool sent = co_await flush(out);
            if (!sent) co_return false;
        }
        const std::string_view piece = page.substr(0, out.room());
        const bool commit = co_await append(piece, out);
        if (!commit) co_return false;
        page.remove_prefix(piece.size());
    }
    co_return true;
}

// The client may take as long as it likes, as long as it takes something.
void connection::extend_body_timeout(std::uint64_t byte_count) noexcept {
    const std::uint64_t rate = configuration_->options.send_bytes_per_second_min;
    const std::chrono::nanoseconds step = configuration_->options.idle_time;
    if (rate == 0) return timeout_.set(kevring::never_ns);
    constexpr std::uint64_t seconds_max = 1'000'000'000;
    const double bytes = std::chrono::duration<double>(step).count() * static_cast<double>(rate);
    timeout_.set_rate(step, std::max<std::uint64_t>(1, static_cast<std::uint64_t>(bytes)),
                      step + std::chrono::seconds(std::min(byte_count / rate, seconds_max)));
}

// Small responses that went into the outbox are finished before they are sent, so the times that
// are known here are those of the server, and for large files those of the client too.
void connection::finished(const request_head& head) {
    worker_counters& counters = worker_.counters();
    ++counters.requests[status_];
    counters.body_bytes += body_bytes_;
    if (!worker_.timing_enabled()) [[likely]]
        return;
    const std::chrono::nanoseconds took(worker_.loop().now_ns() - began_ns_);
    counters.durations.add(took);
    if (worker_.log().enabled()) log(head, took);
}

void connection::log(const request_head& head, std::chrono::nanoseconds took) {
    if (!client_name_) {
        const auto peer = client_.peer();
        const bool has_host = peer && peer->family() != AF_UNIX;
        client_name_ = std::make_unique<std::string>(has_host ? peer->host() : "unix:");
    }
    access_record record;
    record.client = *client_name_;
    record.unix_second = std::time(nullptr);
    record.request_line = head.request_line();
    record.status = status_;
    record.body_bytes = body_bytes_;
    record.duration = took;
    record.referer = head.text(known_field::referer);
    record.user_agent = head.text(known_field::user_agent);
    worker_.log().add(record);
}

}  // namespace httpd
