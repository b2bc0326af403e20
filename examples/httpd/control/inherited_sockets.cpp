#include "inherited_sockets.hpp"

#include "upgrade.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/socket.h>
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

// The reverse of escaped_name() in upgrade.cpp.
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
    // A spawned process gets its number only afterwards, so the old process gives its own.
    const bool succeeds = number_in(predecessor_variable) == ::getppid();
    if (succeeds || number_in("LISTEN_PID") == ::getpid()) {
        const char* const given = std::getenv("LISTEN_FDNAMES");
        const std::string names(given != nullptr && succeeds ? given : "");
        const long count = number_in("LISTEN_FDS");
        std::size_t begin = 0;
        for (long i = 0; i < count; ++i) {
            kevring::fd one(first_inherited + static_cast<int>(i));
            const std::size_t end = std::min(names.find(':', begin), names.size());
            std::string name = read_name(std::string_view(names).substr(begin, end - begin));
            begin = std::min(end + 1, names.size());
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

}  // namespace httpd
