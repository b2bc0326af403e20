// dispatch.cpp: selection of the response to a request.
#include "connection.hpp"

#include "examples/httpd/http/media_type.hpp"
#include "examples/httpd/http/target.hpp"

#include <array>
#include <ctime>
#include <memory>
#include <string>
#include <utility>

namespace httpd {
namespace {

constexpr std::string_view allow_line = "Allow: GET, HEAD, OPTIONS\r\n";

std::string location_line(std::string_view location, const request_head& head) {
    std::string line = "Location: ";
    line += location;
    if (head.has_query() && location.find('?') == location.npos)
        line.append("?").append(head.query());
    return line += "\r\n";
}

}  // namespace

// Both ways of answering decide here: try_fast_path() without a coroutine frame, respond() with
// one. A file whose content is in memory may be closed, if `may_be_closed`.
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
    if (site_->has_access_rules() && !site_->admits(client_address(head))) {
        made.what = decision::kind::status;
        made.status = 403;
        return made;
    }
    const bool is_protected = !site_->protection.empty();
    if (is_protected) {
        const access known = check_access(head);
        if (known == access::unknown) return made;  // respond() verifies the password
        if (known == access::refused) {
            made.what = decision::kind::status;
            made.status = 401;
            made.lines = refusal_lines(401);
            return made;
        }
    }
    if (const auto moved = find_redirect(site_->redirects, head.path())) [[unlikely]] {
        made.what = decision::kind::status;
        made.status = moved->status;
        made.lines = location_line(moved->location, head);
        return made;
    }
    // Redirected by look_up(); in the cache it is for the path without the suffix.
    if (site_->options.drop_html && head.path().ends_with(".html")) return made;
    // After a reload the cache belongs to the next configuration.
    if (configuration_ != worker_.current_configuration().get()) return made;
    made.known = worker_.cached(site_->index, head.path(), may_be_closed);
    if (made.known == nullptr) return made;
    // An index file, and one behind --drop-html or --fallback, has another name than the path.
    if (is_protected && check_access(head, made.known->file->plain.name) != access::granted) {
        made.known = nullptr;
        return made;  // look_up() checks again
    }
    if (coding_to_make(head, *made.known->file) != content_coding::identity) {
        made.known = nullptr;
        return made;  // by look_up()
    }
    made.what = decision::kind::file;
    made.plan = plan_file_response(head, *made.known->file, std::time(nullptr));
    return made;
}

// The way with a frame: for what has to wait.
kevring::task<bool> connection::respond(const request_head& head, output_buffer& out, bool keep) {
    const bool roomy = co_await make_room(out, head_room);
    if (!roomy) co_return false;
    const bool reads =
        head.method() == request_method::get || head.method() == request_method::head;
    if (reads && !site_->protection.empty()) {
        const unsigned refusal = co_await authorize(head, check_access(head));
        if (refusal != 0)
            co_return co_await send_short_response(head, refusal, keep, refusal_lines(refusal),
                                                   out);
    }
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
    const std::string_view path = head.path();
    if (site_->options.drop_html && path.ends_with(".html")) {
        // The file has one address, without the suffix; an index file has that of its directory.
        const resource named = co_await site_->files.find(worker_.loop(), path);
        if (named.file) {
            std::string location = encoded_path(named.file->plain.name, false);
            location.resize(location.size() - std::string_view(".html").size());
            if (location.ends_with("/index")) location.resize(location.size() - 5);
            co_return co_await send_short_response(head, 301, keep, location_line(location, head),
                                                   out);
        }
    }
    resource found = co_await find_cached(path);
    if (found.status == 404 && site_->options.drop_html && !path.ends_with('/')) {
        const std::string with_suffix = std::string(path) + ".html";
        found = co_await find_cached(with_suffix);
    }
    if (found.status == 404 && !site_->options.fallback.empty() &&
        built_in_media_type(path) == unknown_media_type) {
        const std::string fallback = encoded_path(site_->options.fallback.text, false);
        found = co_await find_cached(fallback);
    }
    if (found.file) {
        if (!site_->protection.empty()) {
            const unsigned refusal =
                co_await authorize(head, check_access(head, found.file->plain.name));
            if (refusal != 0)
                co_return co_await send_short_response(head, refusal, keep, refusal_lines(refusal),
                                                       out);
        }
        co_await compress(head, *found.file);
        const file_response plan = plan_file_response(head, *found.file, std::time(nullptr));
        co_return co_await respond_file(head, plan, out, keep);
    }
    if (!found.directory.empty())
        co_return co_await respond_listing(head, found.directory, out, keep);
    std::string lines;
    if (found.status == 301) lines = location_line(found.location, head);
    co_return co_await send_short_response(head, found.status, keep, lines, out);
}

// Adds the coding that the client prefers, or leaves the file as it is.
kevring::task<void> connection::compress(const request_head& head, served_file& file) {
    const content_coding coding = coding_to_make(head, file);
    if (coding == content_coding::identity) co_return;
    timeout_.set(kevring::never_ns);  // the time is the server's own
    const auto content = co_await worker_.compression().get(
        worker_.loop(), file.plain, coding, configuration_->options.compressed_bytes_max);
    extend_timeout(configuration_->options.idle_time);
    const bool is_new = (file.available & accepted_codings::bit(coding)) == 0;
    if (content && is_new) site_->files.add_compressed(file, coding, content);
}

// Looks a path up in the cache, then in the file system.
kevring::task<resource> connection::find_cached(std::string_view path) {
    if (configuration_ == worker_.current_configuration().get())
        if (const cached_file* const known = worker_.cached(site_->index, path))
            co_return resource(known->file);
    resource found = co_await site_->files.find(worker_.loop(), path);
    if (found.file && configuration_ == worker_.current_configuration().get())
        worker_.cache(site_->index, path, found.file);
    co_return found;
}

// The address of the client, or the one that a trusted proxy reports. Nothing for a Unix socket.
std::optional<ip_address> connection::client_address(const request_head& head) {
    if (!peer_) {
        peer_ = std::make_unique<peer_address>();
        peer_->address = address_of(client_);
    }
    if (!configuration_->trusted_proxies.contains(peer_->address)) return peer_->address;
    std::array<char, 1024> scratch;
    const auto value = head.list(known_field::forwarded_for, scratch);
    if (!value) return peer_->address;
    const auto client = forwarded_client(*value, configuration_->trusted_proxies.networks);
    return client ? client : peer_->address;
}

}  // namespace httpd
