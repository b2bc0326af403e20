// wildcards.hpp: patterns of the configuration.
#pragma once

#include <string_view>

namespace httpd {

/// True if `text` is `pattern`, in which each '*' stands for any bytes.
bool matches_wildcards(std::string_view pattern, std::string_view text) noexcept;

}  // namespace httpd
