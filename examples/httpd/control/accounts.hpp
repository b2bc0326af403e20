// accounts.hpp: users and groups, by name or number.
#pragma once

#include "examples/httpd/config/option_text.hpp"

#include <string>
#include <string_view>

#include <sys/types.h>

namespace httpd {

struct account {
    uid_t user;
    gid_t group;
    std::string name;  // empty if the number has no entry in passwd(5)
};

/// "USER" or "USER:GROUP", each a name or a number. Without a group it is the user's in passwd(5),
/// or the number of a user that has no entry there.
///
/// Errors     Throws option_error.
account find_account(const option_text& option);

/// Gives up the rights of root for those of `option`'s user and groups, for good. Nothing if the
/// process is that user already, or if the option is empty.
///
/// Errors     Throws option_error; the process must end then.
/// Thread     Before others are started.
void drop_privileges(const option_text& option);

/// Sets owner and permissions of a Unix socket's path.
///
/// Errors     Throws option_error.
void set_owner(const std::string& path, const option_text& owner);

}  // namespace httpd
