#include "inherited_sockets.hpp"

#include "upgrade.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace httpd {
namespace {

long number_in(const char* variable) noexcept {
    const char* const text = std::getenv(variable);
    return text == nullptr ? 0 : std::strtol(text, nullptr, 10);
}

bool listens(int socket) noexcept {
    int value = 0;
    socklen_t bytes = sizeof value;
    return ::getsockopt(socket, SOL_SOCKET, SO_ACCEPTCONN, &value, &bytes) == 0 && value != 0;
}

// As successor::start() writes it.
std::string read_name(std::string_view text) {
    std::string name;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool colon = text.substr(i, 3) == "%3A";
        const bool percent = text.substr(i, 3) == "%25";
        name += colon ? ':' : percent ? '%' : text[i];
        if (colon || percent) i += 2;
    }
    return name;
}

}  // namespace

inherited_sockets take_inherited_sockets() {
    inherited_sockets taken;
    // A process that is spawned has a number only afterwards, so its predecessor gives its own.
    const bool succeeds = number_in(predecessor_variable) == ::getppid();
    if (succeeds || number_in("LISTEN_PID") == ::getpid()) {
        const char* const given = std::getenv("LISTEN_FDNAMES");
        const std::string names(given != nullptr && succeeds ? given : "");
        const long count = number_in("LISTEN_FDS");
        std::size_t at = 0;
        for (long i = 0; i < count; ++i) {
            kevring::fd one(first_inherited + static_cast<int>(i));
            const std::size_t end = std::min(names.find(':', at), names.size());
            std::string name = read_name(std::string_view(names).substr(at, end - at));
            at = std::min(end + 1, names.size());
            const bool is_ready_pipe = succeeds && name == ready_name;
            if (::fcntl(one.number(), F_SETFD, FD_CLOEXEC) != 0 ||
                (!is_ready_pipe && !listens(one.number())))
                throw std::runtime_error("LISTEN_FDS: descriptor " + std::to_string(one.number()) +
                                         " is no listening socket");
            if (is_ready_pipe)
                taken.ready = std::move(one);
            else
                taken.sockets.push_back({std::move(one), std::move(name)});
        }
    }
    for (const char* variable :
         {predecessor_variable, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
        ::unsetenv(variable);
    return taken;
}

void notify_service_manager(const std::string& state) noexcept {
    const char* const path = std::getenv("NOTIFY_SOCKET");
    sockaddr_un where{};
    const std::size_t bytes = path == nullptr ? 0 : std::strlen(path);
    if (bytes < 2 || bytes >= sizeof where.sun_path) return;
    where.sun_family = AF_UNIX;
    std::memcpy(where.sun_path, path, bytes);
    if (path[0] == '@') where.sun_path[0] = 0;  // an abstract address
    const kevring::fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const auto address_bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + bytes);
    // Nobody can do anything about a manager that does not listen.
    static_cast<void>(!::sendto(socket.number(), state.data(), state.size(), MSG_NOSIGNAL,
                                reinterpret_cast<const sockaddr*>(&where), address_bytes));
}

void drop_privileges(const std::string& user) {
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
