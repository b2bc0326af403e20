#include "body_reader.hpp"

#include <algorithm>

#include "characters.hpp"
#include "request_head.hpp"

namespace httpd {

body_reader::body_reader(const request_head& head, std::uint64_t limit_bytes) noexcept
    : left_bytes_(limit_bytes),
      chunk_bytes_(head.content_length().value_or(0)),
      phase_(head.chunked() ? phase::size_first : phase::counted) {
    if (!head.has_body()) {
        state_ = body_state::complete;
    } else if (chunk_bytes_ > left_bytes_) {
        state_ = body_state::too_large;
    }
}

std::size_t body_reader::read(std::string_view received) noexcept {
    std::size_t at = 0;
    while (state_ == body_state::incomplete && at < received.size()) {
        if (left_bytes_ == 0) {
            state_ = body_state::too_large;
            break;
        }
        if (phase_ != phase::data && phase_ != phase::counted) {
            --left_bytes_;
            if (!step(received[at++])) state_ = body_state::malformed;
            continue;
        }
        const auto taken = static_cast<std::size_t>(
            std::min({chunk_bytes_, left_bytes_, std::uint64_t{received.size() - at}}));
        at += taken;
        left_bytes_ -= taken;
        chunk_bytes_ -= taken;
        data_bytes_ += taken;
        if (chunk_bytes_ != 0) continue;
        if (phase_ == phase::counted) {
            state_ = body_state::complete;
        } else {
            phase_ = phase::data_return;
        }
    }
    return at;
}

bool body_reader::step(char byte) noexcept {
    switch (phase_) {
        case phase::size_first:
            if (!is(byte, hex_character)) return false;
            chunk_bytes_ = hex_value(byte);
            line_bytes_ = 1;
            phase_ = phase::size_rest;
            return true;
        case phase::size_rest:
            ++line_bytes_;
            if (byte == '\r') {
                phase_ = phase::size_line_feed;
            } else if (byte == ';') {
                phase_ = phase::extension;
            } else {
                // 15 digits are more than any limit, and 16 would overflow a signed length.
                if (!is(byte, hex_character) || line_bytes_ > 15) return false;
                chunk_bytes_ = chunk_bytes_ * 16 + hex_value(byte);
            }
            return true;
        case phase::extension:
            // RFC 9112 7.1.1: those not known are ignored, and we know none.
            if (++line_bytes_ > chunk_line_bytes_max) return false;
            if (byte == '\r') phase_ = phase::size_line_feed;
            return byte == '\r' || is(byte, field_character);
        case phase::size_line_feed:
            // first: a last chunk has no data behind it, but the trailer.
            line_bytes_ = 0;
            phase_ = chunk_bytes_ == 0 ? phase::trailer_first : phase::data;
            if (byte != '\n') return false;
            // Said before the bytes of the chunk have come, so that they need not.
            if (chunk_bytes_ > left_bytes_) state_ = body_state::too_large;
            return true;
        case phase::data_return: phase_ = phase::data_line_feed; return byte == '\r';
        case phase::data_line_feed: phase_ = phase::size_first; return byte == '\n';
        case phase::trailer_first:
            phase_ = byte == '\r' ? phase::last_line_feed : phase::trailer_name;
            return byte == '\r' ||
                   (is(byte, token_character) && ++line_bytes_ <= trailer_bytes_max);
        case phase::trailer_name:
            if (byte == ':') phase_ = phase::trailer_value;
            return (byte == ':' || is(byte, token_character)) && ++line_bytes_ <= trailer_bytes_max;
        case phase::trailer_value:
            if (byte == '\r') phase_ = phase::trailer_line_feed;
            return (byte == '\r' || is(byte, field_character)) &&
                   ++line_bytes_ <= trailer_bytes_max;
        case phase::trailer_line_feed: phase_ = phase::trailer_first; return byte == '\n';
        case phase::last_line_feed: state_ = body_state::complete; return byte == '\n';
        case phase::counted:
        case phase::data: break;
    }
    return false;  // read() takes these two itself
}

}  // namespace httpd
