#include "inheritance.hpp"

#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <system_error>

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace httpd {
namespace {

constexpr int first_inherited = 3;

long number_in(const char* variable) noexcept {
    const char* const text = std::getenv(variable);
    return text == nullptr ? 0 : std::strtol(text, nullptr, 10);
}

bool listens(int socket) noexcept {
    int value = 0;
    socklen_t bytes = sizeof value;
    return ::getsockopt(socket, SOL_SOCKET, SO_ACCEPTCONN, &value, &bytes) == 0 && value != 0;
}

}  // namespace

std::vector<kevring::fd> take_inherited_sockets() {
    std::vector<kevring::fd> taken;
    if (number_in("LISTEN_PID") == ::getpid()) {
        const long count = number_in("LISTEN_FDS");
        for (long i = 0; i < count; ++i) {
            kevring::fd one(first_inherited + static_cast<int>(i));
            if (::fcntl(one.number(), F_SETFD, FD_CLOEXEC) != 0 || !listens(one.number()))
                throw std::runtime_error("LISTEN_FDS: descriptor " + std::to_string(one.number()) +
                                         " is no listening socket");
            taken.push_back(std::move(one));
        }
    }
    for (const char* variable : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
        ::unsetenv(variable);
    return taken;
}

void become(const std::string& user) {
    if (user.empty()) return;
    errno = 0;
    const passwd* const known = ::getpwnam(user.c_str());
    if (known == nullptr) throw std::runtime_error("--user " + user + ": there is no such user");
    if (::geteuid() == known->pw_uid && ::getuid() == known->pw_uid) return;
    const std::string name = "--user " + user;
    const gid_t group = known->pw_gid;
    const uid_t id = known->pw_uid;
    // first: the groups, which only root may change.
    if (::initgroups(user.c_str(), group) != 0 || ::setgid(group) != 0 || ::setuid(id) != 0)
        throw std::system_error(errno, std::system_category(), name);
    if (id != 0 && ::setuid(0) == 0)
        throw std::runtime_error(name + ": root's rights came back, which must not be");
}

}  // namespace httpd
