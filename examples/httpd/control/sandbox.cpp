#include "sandbox.hpp"

#include "examples/httpd/observe/error_log.hpp"

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace httpd {
namespace {

// From <linux/landlock.h>, whose older versions lack newer members.
struct ruleset_attributes {
    std::uint64_t handled_access_fs;
    std::uint64_t handled_access_net;  // version 4
};
struct [[gnu::packed]] path_beneath_attributes {
    std::uint64_t allowed_access;
    std::int32_t parent_fd;
};
constexpr unsigned create_ruleset_version = 1U << 0;
constexpr int rule_path_beneath = 1;
constexpr std::uint64_t read_file_right = 1U << 2;
constexpr std::uint64_t read_directory_right = 1U << 3;
constexpr std::uint64_t bind_and_connect_tcp = 3;

// All file access that a version knows. Access that it does not know stays allowed.
std::uint64_t known_access(int version) noexcept {
    std::uint64_t bits = (1U << 13) - 1;  // execute ... make_sym
    if (version >= 2) bits |= 1U << 13;   // refer
    if (version >= 3) bits |= 1U << 14;   // truncate
    if (version >= 5) bits |= 1U << 15;   // ioctl_dev
    return bits;
}

[[noreturn]] void fail_call(const char* call) {
    throw std::system_error(
        errno, std::system_category(),
        std::string("--sandbox: ") + call + "; --sandbox off starts without it");
}

}  // namespace

int landlock_version() noexcept {
    const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, create_ruleset_version);
    return version < 0 ? 0 : static_cast<int>(version);
}

bool sandbox_enabled(sandbox_mode wanted) {
    if (wanted == sandbox_mode::disabled) return false;
    const int version = landlock_version();
    if (version > 0) return true;
    if (wanted == sandbox_mode::enabled)
        throw std::runtime_error(
            "--sandbox on: the kernel has no Landlock; it needs CONFIG_SECURITY_LANDLOCK, and "
            "landlock in the boot option lsm=");
    log_message(severity::warning, "not restricted to the root: the kernel has no Landlock");
    return false;
}

void restrict_thread(std::span<const kevring::fd> roots) {
    const int version = landlock_version();
    const ruleset_attributes wanted{known_access(version), bind_and_connect_tcp};
    const std::size_t wanted_bytes = version >= 4 ? sizeof wanted : sizeof(std::uint64_t);
    const kevring::fd rules(
        static_cast<int>(::syscall(SYS_landlock_create_ruleset, &wanted, wanted_bytes, 0)));
    if (!rules) fail_call("landlock_create_ruleset");
    for (const kevring::fd& root : roots) {
        const path_beneath_attributes below_root{read_file_right | read_directory_right,
                                                 root.number()};
        if (::syscall(SYS_landlock_add_rule, rules.number(), rule_path_beneath, &below_root, 0) !=
            0)
            fail_call("landlock_add_rule");
    }
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail_call("PR_SET_NO_NEW_PRIVS");
    if (::syscall(SYS_landlock_restrict_self, rules.number(), 0) != 0)
        fail_call("landlock_restrict_self");
}

bool is_within(kevring::fd_ref root, kevring::fd_ref folder) noexcept {
    struct stat wanted{};
    struct stat here{};
    if (::fstat(root.number(), &wanted) != 0 || ::fstat(folder.number(), &here) != 0) return false;
    kevring::fd directory(::openat(folder.number(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    while (directory) {
        if (here.st_dev == wanted.st_dev && here.st_ino == wanted.st_ino) return true;
        kevring::fd parent(::openat(directory.number(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
        struct stat next{};
        if (!parent || ::fstat(parent.number(), &next) != 0) return false;
        if (next.st_dev == here.st_dev && next.st_ino == here.st_ino) return false;  // the top
        here = next;
        directory = std::move(parent);
    }
    return false;
}

}  // namespace httpd
