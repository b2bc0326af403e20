#include "error_log.hpp"

#include "log_target.hpp"

#include <kevring/runtime/thread_mutex.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <system_error>
#include <utility>

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

namespace httpd {
namespace {

constexpr std::array<std::string_view, 7> level_names{"",        "",       "",    "error",
                                                      "warning", "notice", "info"};

std::string_view name_of(severity level) noexcept {
    return level_names[static_cast<std::size_t>(level)];
}

// JOURNAL_STREAM has the device and inode of the stream that systemd has connected to the journal;
// standard error may have been redirected since.
bool leads_to_journal() noexcept {
    const char* const stream = std::getenv("JOURNAL_STREAM");
    struct stat status{};
    if (stream == nullptr || ::fstat(STDERR_FILENO, &status) != 0) return false;
    unsigned long long device = 0;
    unsigned long long inode = 0;
    return std::sscanf(stream, "%llu:%llu", &device, &inode) == 2 && status.st_dev == device &&
           status.st_ino == inode;
}

struct current_target {
    kevring::thread_mutex mutex;
    std::shared_ptr<const error_log_target> target KEVRING_GUARDED_BY(mutex);
};

current_target& current() {
    static current_target one;
    return one;
}

std::shared_ptr<const error_log_target> target_now() {
    current_target& own = current();
    const kevring::thread_lock lock(own.mutex);
    return own.target;
}

std::string prefix_of(error_log_target::form lines, severity level) {
    switch (lines) {
        case error_log_target::form::plain: return "httpd: ";
        case error_log_target::form::journal:
            return '<' + std::to_string(static_cast<unsigned>(level)) + '>';
        case error_log_target::form::file: break;
    }
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    std::array<char, 32> text{};
    const std::size_t count = ::gmtime_r(&now, &parts) == nullptr
                                  ? 0
                                  : std::strftime(text.data(), text.size(), "%FT%TZ ", &parts);
    return std::string(text.data(), count).append(name_of(level)).append(": ");
}

}  // namespace

std::shared_ptr<const error_log_target> open_error_log(const std::string& path, severity least) {
    error_log_target made;
    made.least = least;
    if (path == "journal" || (path.empty() && leads_to_journal())) {
        made.lines = error_log_target::form::journal;
    } else if (!path.empty()) {
        made.lines = error_log_target::form::file;
        made.file = open_log_file(path);
        if (!made.file) throw std::system_error(errno, std::system_category(), path);
    }
    return std::make_shared<const error_log_target>(std::move(made));
}

void set_error_log(std::shared_ptr<const error_log_target> target) noexcept {
    current_target& own = current();
    const kevring::thread_lock lock(own.mutex);
    own.target.swap(target);
}

void log_message(severity level, std::string_view message) noexcept try {
    const std::shared_ptr<const error_log_target> target = target_now();
    if (target && level > target->least) return;
    std::string line = prefix_of(target ? target->lines : error_log_target::form::plain, level);
    const std::size_t text_begin = line.size();
    line += message;
    if (line.size() >= PIPE_BUF) line.resize(PIPE_BUF - 1);  // written whole, without waiting
    // One message is one line: a text from outside must not begin another.
    std::replace(line.begin() + static_cast<std::ptrdiff_t>(text_begin), line.end(), '\n', ' ');
    line += '\n';
    const int file = target && target->file ? target->file.number() : STDERR_FILENO;
    pollfd ready{.fd = file, .events = POLLOUT, .revents = 0};
    if (::poll(&ready, 1, 0) == 1) static_cast<void>(!::write(file, line.data(), line.size()));
} catch (...) {
    // No memory: nothing can be said.
}

void log_fatal(std::string_view message) noexcept {
    log_message(severity::error, message);
    const std::shared_ptr<const error_log_target> target = target_now();
    if (!target || !target->file) return;
    set_error_log(nullptr);
    log_message(severity::error, message);
}

}  // namespace httpd
