// send_content.cpp: the bodies of responses: small ones through the output buffer, large ones from
// the file.
#include "connection.hpp"
#include "examples/httpd/http/conditions.hpp"

#include <kevring/runtime/operations/read.hpp>
#include <kevring/sendfile/send_file.hpp>

#include <array>
#include <cerrno>
#include <span>
#include <string>
#include <system_error>

#include <sys/random.h>
#include <sys/socket.h>

namespace httpd {
namespace {

// Separates the parts of a response: 16 random bytes occur in no file by chance.
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

}  // namespace

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

// A small range is appended to the output buffer; a large one is sent after the buffer's bytes.
kevring::task<bool> connection::send_bytes(const open_file& file, byte_range range,
                                           output_buffer& out) {
    if (range.count <= small_body_bytes) return send_small(file, range, out);
    return tls_ == nullptr ? send_large(file, range, out) : send_encrypted(file, range, out);
}

kevring::task<bool> connection::send_small(const open_file& file, byte_range range,
                                           output_buffer& out) {
    const bool roomy = co_await make_room(out, static_cast<std::size_t>(range.count));
    if (!roomy) co_return false;
    count_small(range.count);
    while (range.count > 0) {
        ssize_t count = read_nowait(file, range, out);
        if (count == -EAGAIN || count == -EOPNOTSUPP) {  // not in the page cache: do not block
            const std::span<char> space =
                out.prepare().first(static_cast<std::size_t>(range.count));
            kevring::read_operation read(worker_.loop(), file.descriptor,
                                         std::as_writable_bytes(space), range.first);
            const auto received = co_await read;
            count = received ? static_cast<ssize_t>(*received) : -1;
            if (count > 0) out.commit(static_cast<std::size_t>(count));
        }
        // The file was truncated or cannot be read: Content-Length cannot be kept, and only the end
        // of the connection can tell the client.
        if (count <= 0) co_return false;
        range.first += static_cast<std::uint64_t>(count);
        range.count -= static_cast<std::uint64_t>(count);
    }
    co_return true;
}

kevring::task<bool> connection::send_large(const open_file& file, byte_range range,
                                           output_buffer& out) {
    extend_body_timeout(range.count);
    const kevring::send_options options = large_options(file, out);
    const kevring::file_range wanted{.offset = range.first, .count = range.count};
    const kevring::send_report report = co_await kevring::send_file(
        worker_.loop(), client_.native(), file.descriptor, wanted, options);
    out.clear();
    count_large(report);
    body_bytes_ -= range.count - report.file_bytes;  // promised, and not sent
    co_return !report.error;
}

// A page that several responses share is not copied as a whole.
kevring::task<bool> connection::send_page(std::string_view page, output_buffer& out) {
    constexpr std::size_t piece_bytes = std::size_t{256} << 10;
    if (page.size() <= out.room()) {
        out.append(page);
        co_return true;
    }
    extend_body_timeout(page.size());
    const bool flushed = co_await flush(out);
    if (!flushed) co_return false;
    while (!page.empty()) {
        const std::string_view piece = page.substr(0, piece_bytes);
        const auto sent = co_await send(piece);
        if (!sent) {
            body_bytes_ -= page.size() - sent.bytes_sent();
            co_return false;
        }
        page.remove_prefix(piece.size());
    }
    co_return true;
}

// A file that grows while it is sent, as a log does, is sent as promised. One that was truncated, or
// modified without growing, ends the connection: the bytes of two versions would be mixed. stat(2)
// does not distinguish an append from a write of other bytes that also grows the file.
kevring::send_options connection::large_options(const open_file& file,
                                                const output_buffer& out) const noexcept {
    kevring::send_options options;
    options.header = out.bytes();
    options.expected =
        kevring::file_version{.byte_count = file.byte_count, .modified_ns = file.modified_ns};
    options.allow_growth = true;
    options.state_cache = file.memo.get();
    options.force_copy = site_->options.force_copy;
    options.is_nonblocking = nonblocking_;
    return options;
}

void connection::count_large(const kevring::send_report& report) noexcept {
    for (std::size_t path = 0; path < report.path_bytes.size(); ++path)
        worker_.counters().path_bytes[path] += report.path_bytes[path];
    nonblocking_ |= report.bytes_by(kevring::send_path::sendfile) > 0;  // send_file() sets it
}

// Content that was not in the page cache, or on a file system that cannot read without waiting, was
// read by the ring.
void connection::keep_content(const request_head& head, const served_file& served,
                              const open_file& file, const output_buffer& out) {
    const std::uint64_t byte_count = file.byte_count;
    const bool is_last_in_buffer = status_ == 200 && head.method() == request_method::get &&
                                   &file == &served.plain && served.available == 0 &&
                                   byte_count <= small_body_bytes && out.size() >= byte_count;
    if (!is_last_in_buffer) return;
    const std::string_view sent = out.bytes();
    worker_.keep_content(site_->index, head.path(), served,
                         sent.substr(sent.size() - static_cast<std::size_t>(byte_count)));
}

kevring::task<bool> connection::flush(output_buffer& out) {
    if (out.empty()) co_return true;
    bool complete = false;
    if (tls_ == nullptr) {
        const auto sent = co_await client_.send(out.bytes());
        complete = sent.has_value();
    } else {
        const auto sent = co_await tls_->send(out.bytes());
        complete = sent.has_value();
    }
    out.clear();
    co_return complete;
}

// The connection ends directly after these bytes: with MSG_MORE the kernel waits for the FIN and
// sends both in one segment.
kevring::task<void> connection::flush_last(output_buffer& out) {
    if (tls_ != nullptr)
        static_cast<void>(co_await flush(out));
    else if (!out.empty())
        static_cast<void>(co_await client_.send(out.bytes(), MSG_MORE));
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

}  // namespace httpd
