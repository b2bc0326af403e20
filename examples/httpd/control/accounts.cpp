#include "accounts.hpp"

#include "examples/httpd/http/characters.hpp"

#include <cerrno>
#include <charconv>
#include <optional>
#include <system_error>

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

namespace httpd {
namespace {

// (uid_t)-1 means "unchanged" to chown(2) and setresuid(2).
std::optional<std::uint32_t> number_of(std::string_view text) noexcept {
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (text.empty() || error != std::errc() || end != text.data() + text.size() ||
        number == ~std::uint32_t{0})
        return std::nullopt;
    return number;
}

}  // namespace

account find_account(const option_text& option) {
    const std::size_t colon = option.text.find(':');
    const std::string user = option.text.substr(0, colon);
    account found{};
    const passwd* entry = ::getpwnam(user.c_str());
    if (const auto number = number_of(user); entry == nullptr && number) {
        entry = ::getpwuid(*number);
        found.user = *number;
        found.group = *number;
    } else if (entry == nullptr) {
        option.fail("there is no user '" + user + "'; give a name of passwd(5) or a number");
    }
    if (entry != nullptr) found = {entry->pw_uid, entry->pw_gid, entry->pw_name};
    if (colon == std::string::npos) return found;
    const std::string group = option.text.substr(colon + 1);
    if (const ::group* const known = ::getgrnam(group.c_str()))
        found.group = known->gr_gid;
    else if (const auto number = number_of(group))
        found.group = *number;
    else
        option.fail("there is no group '" + group + "'; give a name of group(5) or a number");
    return found;
}

void drop_privileges(const option_text& option) {
    if (option.empty()) return;
    const account wanted = find_account(option);
    if (::geteuid() == wanted.user && ::getuid() == wanted.user) return;
    // first: the groups, which only root may change.
    const int groups_set = wanted.name.empty() ? ::setgroups(1, &wanted.group)
                                               : ::initgroups(wanted.name.c_str(), wanted.group);
    if (groups_set != 0 || ::setgid(wanted.group) != 0 || ::setuid(wanted.user) != 0)
        option.fail(std::system_category().message(errno) +
                    (errno == EPERM ? "; only root can switch to another user" : ""));
    if (wanted.user != 0 && ::setuid(0) == 0) option.fail("the rights of root can be regained");
}

void set_owner(const std::string& path, const option_text& owner) {
    const account wanted = find_account(owner);
    const bool has_group = owner.text.find(':') != std::string::npos || wanted.user != ::geteuid();
    if (::chown(path.c_str(), wanted.user, has_group ? wanted.group : static_cast<gid_t>(-1)) != 0)
        owner.fail(path + ": " + std::system_category().message(errno));
}

}  // namespace httpd
