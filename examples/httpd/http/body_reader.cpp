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
    std::size_t index = 0;
    while (state_ == body_state::incomplete && index < received.size()) {
        if (left_bytes_ == 0) {
            state_ = body_state::too_large;
            break;
        }
        if (phase_ != phase::data && phase_ != phase::counted) {
            --left_bytes_;
            if (!step(received[index++])) state_ = body_state::malformed;
            continue;
        }
        const auto taken = static_cast<std::size_t>(
            std::min({chunk_bytes_, left_bytes_, std::uint64_t{received.size() - index}}));
        index += taken;
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
    return index;
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
            if (end_of_extension(byte)) return true;
            // 15 digits are more than any limit, and 16 would overflow a signed length.
            if (!is(byte, hex_character) || line_bytes_ > 15) return false;
            chunk_bytes_ = chunk_bytes_ * 16 + hex_value(byte);
            return true;
        case phase::size_blank:
        case phase::extension_name_first:
        case phase::extension_name:
        case phase::extension_equals:
        case phase::extension_value_first:
        case phase::extension_token:
        case phase::extension_quoted:
        case phase::extension_escape:
        case phase::extension_end:
            return ++line_bytes_ <= chunk_line_bytes_max && step_extension(byte);
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

// After a size, a name or a value: the line's end, another extension, or a blank. False for any
// other byte.
bool body_reader::end_of_extension(char byte) noexcept {
    if (byte == '\r')
        phase_ = phase::size_line_feed;
    else if (byte == ';')
        phase_ = phase::extension_name_first;
    else if (is_blank(byte))
        phase_ = phase_ == phase::extension_name ? phase::extension_equals : phase::size_blank;
    else
        return false;
    return true;
}

// RFC 9112 7.1.1: *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ). Extensions that
// are not known are ignored, and none is known here; but two readers must agree on their end.
bool body_reader::step_extension(char byte) noexcept {
    switch (phase_) {
        case phase::size_blank:
            if (byte == ';') phase_ = phase::extension_name_first;
            return byte == ';' || is_blank(byte);
        case phase::extension_name_first:
            if (is_blank(byte)) return true;
            phase_ = phase::extension_name;
            return is(byte, token_character);
        case phase::extension_name:
            if (byte == '=') phase_ = phase::extension_value_first;
            return byte == '=' || is(byte, token_character) || end_of_extension(byte);
        case phase::extension_equals:
            if (byte == '=') phase_ = phase::extension_value_first;
            if (byte == ';') phase_ = phase::extension_name_first;
            return byte == '=' || byte == ';' || is_blank(byte);
        case phase::extension_value_first:
            if (is_blank(byte)) return true;
            phase_ = byte == '"' ? phase::extension_quoted : phase::extension_token;
            return byte == '"' || is(byte, token_character);
        case phase::extension_token: return is(byte, token_character) || end_of_extension(byte);
        case phase::extension_quoted:
            if (byte == '"') phase_ = phase::extension_end;
            if (byte == '\\') phase_ = phase::extension_escape;
            return is(byte, field_character);
        case phase::extension_escape:
            phase_ = phase::extension_quoted;
            return is(byte, field_character);
        default: return end_of_extension(byte);  // extension_end
    }
}

}  // namespace httpd
