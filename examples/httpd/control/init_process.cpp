#include "init_process.hpp"

#include <kevring/runtime/fd.hpp>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <map>
#include <memory>
#include <string>

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

namespace httpd {
namespace {

struct directory_closer {
    void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};

// The parent of a process; 0 if it has ended.
pid_t parent_of(const std::string& process) {
    std::string text;
    std::getline(std::ifstream("/proc/" + process + "/stat"), text);
    const std::size_t name_end = text.rfind(')');  // the name may hold anything
    if (name_end == text.npos || name_end + 4 >= text.size()) return 0;
    return static_cast<pid_t>(std::strtol(text.c_str() + name_end + 4, nullptr, 10));
}

}  // namespace

bool is_init_process() noexcept { return ::getpid() == 1; }

void forward_signal(int number) noexcept try {
    const std::unique_ptr<DIR, directory_closer> processes(::opendir("/proc"));
    if (!processes) return;
    std::map<pid_t, pid_t> parents;
    while (const dirent* const each = ::readdir(processes.get())) {
        const std::string name = each->d_name;
        if (name.find_first_not_of("0123456789") != name.npos) continue;
        parents[static_cast<pid_t>(std::strtol(name.c_str(), nullptr, 10))] = parent_of(name);
    }
    for (const auto& each : parents) {
        // A process that takes over is a child of the one that it replaces, until that ends.
        auto ancestor = parents.find(each.second);
        while (ancestor != parents.end() && ancestor->first != ::getpid())
            ancestor = parents.find(ancestor->second);
        if (ancestor != parents.end()) ::kill(each.first, number);
    }
} catch (const std::exception&) {
    // No memory: the sender may try again.
}

int supervise_children() {
    sigset_t wanted;
    ::sigemptyset(&wanted);
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR2, SIGCHLD})
        ::sigaddset(&wanted, number);
    ::sigprocmask(SIG_BLOCK, &wanted, nullptr);
    int result = 0;
    while (true) {
        int status = 0;
        pid_t ended = 0;
        while ((ended = ::waitpid(-1, &status, WNOHANG)) > 0)
            result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (ended < 0 && errno == ECHILD) return result;
        const int number = ::sigwaitinfo(&wanted, nullptr);
        if (number > 0 && number != SIGCHLD) forward_signal(number);
    }
}

}  // namespace httpd
