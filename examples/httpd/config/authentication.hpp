// authentication.hpp: the paths that need a user and a password.
#pragma once

#include "option_text.hpp"
#include "password_file.hpp"
#include "path_rules.hpp"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace httpd {

/// Paths and the users who may read them.
struct authentication_rule {
    path_pattern pattern;
    std::shared_ptr<password_file> users;  // null: any client
    std::string challenge;                 // the line of a 401
};

/// Thread     Any: it is constant.
class authentication {
public:
    authentication() = default;
    /// Each is "PATTERN FILE [REALM]", or "PATTERN off" for an exception from rules behind it.
    ///
    /// Errors     Throws option_error.
    explicit authentication(const std::vector<option_text>& rules);

    bool empty() const noexcept { return rules_.empty(); }
    /// The rule for a name below the root, of a file or of a directory; null if any client may read
    /// it.
    const authentication_rule* find(std::string_view name) const;

private:
    std::vector<authentication_rule> rules_;
};

}  // namespace httpd
