// status.hpp: the status codes of HTTP, with their lines ready to be sent.
#pragma once

#include <string_view>

namespace httpd {

/// "HTTP/1.1 404 Not Found\r\n". A status that the registry does not know is sent as 500.
std::string_view status_line(unsigned status) noexcept;

/// "Not Found"
std::string_view reason_of(unsigned status) noexcept;

/// Whether a response with this status has neither a body nor a Content-Length (RFC 9110 6.4.1 and
/// 8.6).
constexpr bool is_bodiless(unsigned status) noexcept {
    return status < 200 || status == 204 || status == 304;
}

/// The whole of a 100 response.
inline constexpr std::string_view continue_response = "HTTP/1.1 100 Continue\r\n\r\n";

}  // namespace httpd
