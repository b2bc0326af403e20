// log_target.hpp: an access log that is open, and the form of its lines.
#pragma once

#include "access_log_format.hpp"

#include <kevring/runtime/fd.hpp>

#include <memory>
#include <string>

namespace httpd {

/// Thread     Any: it is constant.
struct log_target {
    std::string path;  // as in the settings
    access_log_format format;
    kevring::fd file;  // appended to: writes of several loops do not mix
};

/// Opens a file to append to, and creates it if there is none. A FIFO is opened without waiting for a
/// reader. Invalid if it cannot be opened; errno has the reason.
kevring::fd open_log_file(const std::string& path) noexcept;

/// `path` "-": standard output. Empty: null. A FIFO without a reader is opened without waiting;
/// lines that do not fit into it are dropped.
///
/// Errors     Throws std::system_error when the file cannot be opened.
std::shared_ptr<const log_target> open_log(const std::string& path, access_log_format format);

}  // namespace httpd
