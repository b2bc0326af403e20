// severity.hpp: the levels of the server's own messages.
#pragma once

#include <cstdint>

namespace httpd {

/// As in syslog(3); the values are its numbers.
enum class severity : std::uint8_t { error = 3, warning = 4, notice = 5, info = 6 };

}  // namespace httpd
