// accept.hpp: the media types that a client accepts (RFC 9110 12.5.1).
#pragma once

#include <string_view>

namespace httpd {

/// True if the value of Accept gives application/json a higher weight than text/html, or the same and
/// names it. `*/*` alone does not: programs that do not choose get the page.
bool prefers_json(std::string_view accept) noexcept;

}  // namespace httpd
