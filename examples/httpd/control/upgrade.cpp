#include "upgrade.hpp"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>
#include <system_error>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace httpd {
namespace {

void check(int error, const std::string& what) {
    if (error != 0) throw std::system_error(error, std::system_category(), what);
}

// For a variable in which colons separate the names.
std::string escaped_name(std::string_view name) {
    std::string text;
    for (const char each : name)
        if (each == ':')
            text += "%3A";
        else if (each == '%')
            text += "%25";
        else
            text += each;
    return text;
}

std::vector<std::string> environment_for(const std::vector<handed_socket>& sockets) {
    std::vector<std::string> all;
    for (char** each = environ; *each != nullptr; ++each) {
        const std::string_view one(*each);
        if (!one.starts_with("LISTEN_") && !one.starts_with(predecessor_variable))
            all.emplace_back(one);
    }
    std::string names;
    for (const handed_socket& each : sockets) names += escaped_name(each.name) + ':';
    all.push_back("LISTEN_FDNAMES=" + names + ready_name);
    all.push_back("LISTEN_FDS=" + std::to_string(sockets.size() + 1));
    all.emplace_back(predecessor_variable).append("=").append(std::to_string(::getpid()));
    return all;
}

class spawn_plan {
public:
    spawn_plan() {
        check(::posix_spawn_file_actions_init(&actions), "posix_spawn");
        check(::posix_spawnattr_init(&attributes), "posix_spawn");
    }
    spawn_plan(const spawn_plan&) = delete;
    spawn_plan& operator=(const spawn_plan&) = delete;
    ~spawn_plan() {
        ::posix_spawn_file_actions_destroy(&actions);
        ::posix_spawnattr_destroy(&attributes);
    }

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
};

}  // namespace

upgrade_process::upgrade_process(const std::string& program, char* const argv[],
                                 const std::vector<handed_socket>& sockets) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) check(errno, "pipe");
    ready_fd_ = kevring::fd(ends[0]);
    const kevring::fd ready(ends[1]);

    // Duplicated above the target numbers first: one could have the number that another gets.
    const int count = static_cast<int>(sockets.size()) + 1;
    std::vector<kevring::fd> moved;
    spawn_plan plan;
    const auto hand_over = [&](int number) {
        kevring::fd away(::fcntl(number, F_DUPFD_CLOEXEC, first_inherited + count));
        if (!away) check(errno, "fcntl");
        const int target = first_inherited + static_cast<int>(moved.size());
        check(::posix_spawn_file_actions_adddup2(&plan.actions, away.number(), target),
              "posix_spawn");
        moved.push_back(std::move(away));
    };
    for (const handed_socket& each : sockets) hand_over(each.socket.number());
    hand_over(ready.number());

    // Here signals are blocked, for the queue, and SIGPIPE is ignored; it starts with the defaults.
    sigset_t none;
    sigset_t all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    check(::posix_spawnattr_setsigmask(&plan.attributes, &none), "posix_spawn");
    check(::posix_spawnattr_setsigdefault(&plan.attributes, &all), "posix_spawn");
    check(::posix_spawnattr_setflags(&plan.attributes,
                                     POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF),
          "posix_spawn");

    std::vector<std::string> texts = environment_for(sockets);
    std::vector<char*> variables;
    for (std::string& each : texts) variables.push_back(each.data());
    variables.push_back(nullptr);
    check(::posix_spawn(&process_, program.c_str(), &plan.actions, &plan.attributes, argv,
                        variables.data()),
          program);
}

bool upgrade_process::serves() const noexcept {
    char said = 0;
    return ::read(ready_fd_.number(), &said, 1) == 1;
}

std::string upgrade_process::end() const {
    ::kill(process_, SIGKILL);  // no effect if it has ended
    int status = 0;
    pid_t ended = 0;
    do ended = ::waitpid(process_, &status, 0);
    while (ended < 0 && errno == EINTR);
    if (ended != process_) return "ended";
    if (WIFEXITED(status)) return "ended with status " + std::to_string(WEXITSTATUS(status));
    return WTERMSIG(status) == SIGKILL ? "did not start to serve"
                                       : "was ended by signal " + std::to_string(WTERMSIG(status));
}

}  // namespace httpd
