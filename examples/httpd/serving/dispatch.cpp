// dispatch.cpp: which response a request gets.
#include "connection.hpp"

#include "examples/httpd/http/accept.hpp"

#include <array>
#include <ctime>
#include <memory>
#include <string>
#include <utility>

namespace httpd {
namespace {

constexpr std::string_view allow_line = "Allow: GET, HEAD, OPTIONS\r\n";

}  // namespace

// Both ways of answering decide here: try_fast_path() without a coroutine frame, respond() with one.
// A file whose content is in memory may be closed, if `may_be_closed`.
connection::decision connection::decide(const request_head& head, bool may_be_closed) {
    decision made;
    switch (head.method()) {
        case request_method::get:
        case request_method::head: break;
        case request_method::options:
            made.what = decision::kind::status;
            made.status = 204;
            made.lines = allow_line;
            return made;
        case request_method::unknown:
            made.what = decision::kind::status;
            made.status = 501;
            return made;
        default:
            made.what = decision::kind::status;
            made.status = 405;
            made.lines = allow_line;
            return made;
    }
    // After a reload the cache belongs to the next configuration.
    if (configuration_ != worker_.current_configuration().get()) return made;
    made.known = worker_.cached(site_->index, head.path(), may_be_closed);
    if (made.known == nullptr) return made;
    made.what = decision::kind::file;
    made.plan = plan_file_response(head, *made.known->file, std::time(nullptr));
    return made;
}

// The way with a frame: for what has to wait.
kevring::task<bool> connection::respond(const request_head& head, output_buffer& out, bool keep) {
    const bool roomy = co_await make_room(out, head_room);
    if (!roomy) co_return false;
    const decision made = decide(head, false);
    if (made.what == decision::kind::status)
        co_return co_await send_short_response(head, made.status, keep, made.lines, out);
    if (made.what == decision::kind::lookup) co_return co_await look_up(head, out, keep);
    const std::shared_ptr<const served_file> file = made.known->file;  // it may leave the cache
    const bool sent = co_await respond_file(head, made.plan, out, keep);
    if (sent) keep_content(head, *file, *made.plan.file, out);
    co_return sent;
}

kevring::task<bool> connection::look_up(const request_head& head, output_buffer& out, bool keep) {
    const resource found = co_await site_->files.find(worker_.loop(), head.path());
    if (found.file) {
        if (configuration_ == worker_.current_configuration().get())
            worker_.cache(site_->index, head.path(), found.file);
        const file_response plan = plan_file_response(head, *found.file, std::time(nullptr));
        co_return co_await respond_file(head, plan, out, keep);
    }
    if (!found.directory.empty())
        co_return co_await respond_listing(head, found.directory, out, keep);
    std::string lines;
    if (found.status == 301) {
        lines = "Location: " + found.location;
        if (head.has_query()) lines.append("?").append(head.query());
        lines += "\r\n";
    }
    co_return co_await send_short_response(head, found.status, keep, lines, out);
}

}  // namespace httpd
