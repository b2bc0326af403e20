#include "response_head.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "characters.hpp"

namespace httpd {
namespace {

// Our own page, in pieces that stand one behind the other.
std::array<std::string_view, 9> page_of(unsigned status) noexcept {
    const std::string_view number =
        status_line(status).substr(std::string_view("HTTP/1.1 ").size(), 3);
    const std::string_view reason = reason_of(status);
    return {
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width\">\n<title>",
        number,
        " ",
        reason,
        "</title>\n<style>:root{color-scheme:light dark}"
        "body{font:15px/1.5 system-ui,sans-serif;margin:20vh auto;max-width:40rem;padding:0 1rem;"
        "background:light-dark(#f4f6f8,#12171c);color:light-dark(#1c2733,#dde4ea)}"
        "h1{font-size:1.25rem;font-weight:600}</style>\n<h1>",
        number,
        " ",
        reason,
        "</h1>\n"};
}

}  // namespace

bool is_field(std::string_view name, std::string_view value) noexcept {
    return !name.empty() && all_are(name, token_character) && all_are(value, field_character) &&
           trimmed(value).size() == value.size();
}

response_head& response_head::field(std::string_view name, std::string_view value) noexcept {
    if (!all_are(value, field_character)) return set_failed();
    return lines(name).lines(": ").lines(value).lines("\r\n");
}

response_head& response_head::field(std::string_view name, std::uint64_t value) noexcept {
    return lines(name).lines(": ").number(value).lines("\r\n");
}

response_head& response_head::content_range(std::uint64_t first, std::uint64_t count,
                                            std::uint64_t size) noexcept {
    return lines("Content-Range: bytes ")
        .number(first)
        .lines("-")
        .number(first + count - 1)
        .lines("/")
        .number(size)
        .lines("\r\n");
}

response_head& response_head::content_range(std::uint64_t size) noexcept {
    return lines("Content-Range: bytes */").number(size).lines("\r\n");
}

response_head& response_head::number(std::uint64_t value) noexcept {
    const auto [end, error] = std::to_chars(position_, end_, value);
    if (error != std::errc()) return set_failed();
    position_ = end;
    return *this;
}

std::string_view write_short_response(std::span<char> out, const short_response& what) noexcept {
    const auto page = page_of(what.status);
    std::size_t body_bytes = what.body.size();
    if (what.body.empty()) {
        for (const std::string_view part : page) body_bytes += part.size();
    }
    const bool bodiless = is_bodiless(what.status);

    response_head head(out, what.status);
    if (!what.date.empty()) head.field("Date", what.date);
    head.lines(what.lines);
    if (!bodiless) head.field("Content-Type", what.media_type).field("Content-Length", body_bytes);
    head.connection(what.keep_alive, what.minor_version);
    const std::string_view head_text = head.finish();
    if (head_text.empty()) return {};
    if (bodiless || what.head_only) return head_text;
    if (body_bytes > out.size() - head_text.size()) return {};

    char* position = out.data() + head_text.size();
    if (what.body.empty()) {
        for (const std::string_view part : page) position = std::ranges::copy(part, position).out;
    } else {
        position = std::ranges::copy(what.body, position).out;
    }
    return {out.data(), static_cast<std::size_t>(position - out.data())};
}

}  // namespace httpd
