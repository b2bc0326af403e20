#include "log_target.hpp"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace httpd {

std::shared_ptr<const log_target> open_log(const std::string& path, access_log_format format) {
    if (path.empty()) return nullptr;
    kevring::fd file(path == "-"
                         ? ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
                         : ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
    if (!file) throw std::system_error(errno, std::system_category(), "--access-log " + path);
    return std::make_shared<const log_target>(log_target{path, format, std::move(file)});
}

}  // namespace httpd
