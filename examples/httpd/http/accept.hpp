// accept.hpp: the media types that a client accepts (RFC 9110 12.5.1).
#pragma once

#include <string_view>

namespace httpd {

/// True if the value of Accept lists application/json with a weight above 0 that is not below that
/// of text/html. A wildcard does not ask for JSON: programs that do not choose get the page.
bool prefers_json(std::string_view accept) noexcept;

}  // namespace httpd
