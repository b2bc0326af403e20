// basic_credentials.hpp: user and password of a request (RFC 7617).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace httpd {

struct basic_credentials {
    std::string user;
    std::string password;
};

/// From the value of Authorization, "Basic dXNlcjpwYXNz". Nothing for another scheme, for text that
/// is no base64, and for control characters.
std::optional<basic_credentials> parse_basic_credentials(std::string_view value);

}  // namespace httpd
