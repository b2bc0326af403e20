// respond.cpp: the heads of responses, and responses without a file.
#include "connection.hpp"

#include "examples/httpd/http/accept.hpp"
#include "examples/httpd/http/target.hpp"

#include <array>
#include <string>
#include <utility>

namespace httpd {

kevring::task<bool> connection::respond_file(const request_head& head, const file_response& plan,
                                             output_buffer& out, bool keep) {
    using enum file_response::kind;
    const open_file& file = *plan.file;
    const bool roomy = co_await make_room(out, head_room + file.lines.whole().size());
    if (!roomy) co_return false;
    switch (plan.what) {
        case not_modified: write_not_modified(head, file, out, keep); co_return true;
        case precondition_failed:
            co_return co_await send_short_response(head, 412, keep, std::string_view(), out);
        case unsatisfiable: {
            const std::string line =
                "Content-Range: bytes */" + std::to_string(file.byte_count) + "\r\n";
            co_return co_await send_short_response(head, 416, keep, line, out);
        }
        case ranges: co_return co_await send_ranges(head, file, *plan.ranges, out, keep);
        case whole: break;
    }
    write_whole_head(head, file, out, keep);
    const byte_range all{.first = 0, .count = body_bytes_};  // of HEAD: none
    co_return co_await send_bytes(file, all, out);
}

response_head connection::begin_head(output_buffer& out, unsigned status) {
    response_head made(out.prepare(), status);
    made.lines(site_->responses.lines()).lines("Date: ").lines(worker_.date()).lines("\r\n");
    return made;
}

void connection::write_whole_head(const request_head& head, const open_file& file,
                                  output_buffer& out, bool keep) {
    response_head made = begin_head(out, 200);
    made.lines(file.lines.whole()).connection(keep, head.minor_version());
    out.commit(made.finish().size());
    record_result(200, head.method() == request_method::get ? file.byte_count : 0);
}

void connection::write_not_modified(const request_head& head, const open_file& file,
                                    output_buffer& out, bool keep) {
    response_head made = begin_head(out, 304);
    made.lines(file.lines.validators()).connection(keep, head.minor_version());
    out.commit(made.finish().size());
    record_result(304, 0);
}

kevring::task<bool> connection::respond_listing(const request_head& head, std::string name,
                                                output_buffer& out, bool keep) {
    std::array<char, 256> scratch;
    const auto accepted = head.list(known_field::accept, scratch);
    const bool as_json = accepted && prefers_json(*accepted);
    if (!out.empty()) {  // reading the directory may take a while
        const bool flushed = co_await flush(out);
        if (!flushed) co_return false;
    }
    timeout_.set(kevring::never_ns);  // the time is the server's own
    const std::shared_ptr<const listing_page> page = co_await site_->listings.get(
        worker_.loop(), worker_.listings(), held_, site_->files, std::move(name),
        as_json ? listing_format::json : listing_format::html);
    extend_timeout(configuration_->options.idle_time);
    if (page->status != 200) {
        const std::string_view lines = page->status == 503 ? "Retry-After: 1\r\n" : "";
        co_return co_await send_short_response(head, page->status, keep, lines, out);
    }
    response_head made = begin_head(out, 200);
    made.lines(as_json ? "Content-Type: application/json\r\n"
                       : "Content-Type: text/html; charset=utf-8\r\n");
    made.lines("Vary: Accept\r\n");
    const std::string own_lines = path_lines(head);
    made.lines(own_lines);
    if (!site_->responses.has_field("cache-control") &&
        own_lines.find("Cache-Control:") == own_lines.npos)
        made.lines("Cache-Control: no-cache\r\n");
    made.field("Content-Length", page->text.size()).connection(keep, head.minor_version());
    out.commit(made.finish().size());
    const bool has_body = head.method() == request_method::get;
    record_result(200, has_body ? page->text.size() : 0);
    if (!has_body) co_return true;
    co_return co_await send_page(page->text, out);
}

// The field lines of the configuration for the path of a response without a file.
std::string connection::path_lines(const request_head& head) const {
    if (site_->rules->empty()) return {};
    std::string name(head.path().size() + 1, '\0');
    const target_name target = parse_target(head.path(), name);
    return site_->rules->lines_for(target ? target.name : std::string_view(), {},
                                   head.method() == request_method::options);
}

bool connection::write_short_response(const request_head& head, unsigned status, bool keep,
                                      std::string_view lines, output_buffer& out) {
    const custom_responses& custom = site_->responses;
    std::string all_lines = std::string(custom.lines()).append(lines);
    if (!site_->rules->empty()) all_lines += path_lines(head);
    short_response response;
    response.status = status;
    response.date = worker_.date();
    response.lines = all_lines;
    response.keep_alive = keep;
    response.minor_version = head.minor_version();
    response.head_only = head.method() == request_method::head;
    response.body = custom.page(status);
    if (out.room() < short_response_bytes + all_lines.size() + response.body.size()) return false;
    const std::string_view written = httpd::write_short_response(out.prepare(), response);
    out.commit(written.size());
    constexpr std::string_view end_of_head = "\r\n\r\n";
    const std::size_t head_bytes = written.find(end_of_head) + end_of_head.size();
    record_result(status, written.size() - head_bytes);
    return true;
}

kevring::task<bool> connection::send_short_response(const request_head& head, unsigned status,
                                                    bool keep, std::string_view lines,
                                                    output_buffer& out) {
    if (write_short_response(head, status, keep, lines, out)) co_return true;
    const bool flushed = co_await flush(out);
    co_return flushed&& write_short_response(head, status, keep, lines, out);
}

// A response after which the connection ends.
kevring::task<void> connection::send_error(unsigned status, const request_head& head,
                                           output_buffer& out) {
    const bool written = co_await send_short_response(head, status, false, std::string_view(), out);
    record_request(head);
    if (written) co_await flush_last(out);
}

}  // namespace httpd
