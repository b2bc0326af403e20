#include "log_target.hpp"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace httpd {

// A FIFO is opened for reading too: otherwise the open fails or waits while no reader has it open,
// and a write fails once the last reader has closed it.
kevring::fd open_log_file(const std::string& path) noexcept {
    struct stat status{};
    if (::stat(path.c_str(), &status) == 0 && S_ISFIFO(status.st_mode))
        return kevring::fd(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    return kevring::fd(
        ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_CLOEXEC, 0644));
}

std::shared_ptr<const log_target> open_log(const std::string& path, access_log_format format) {
    if (path.empty()) return nullptr;
    kevring::fd file(path == "-" ? kevring::fd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3))
                                 : open_log_file(path));
    if (!file) throw std::system_error(errno, std::system_category(), path);
    return std::make_shared<const log_target>(log_target{path, format, std::move(file)});
}

}  // namespace httpd
