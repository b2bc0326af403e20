// error_log.hpp: the messages of the server itself, to standard error, a file or the journal.
#pragma once

#include "severity.hpp"

#include <kevring/runtime/fd.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace httpd {

/// Where messages go.
///
/// Thread     Any: it is constant.
struct error_log_target {
    enum class form : std::uint8_t {
        plain,    ///< "httpd: MESSAGE", for a terminal
        journal,  ///< "<5>MESSAGE", of which the journal reads the level (sd-daemon(3))
        file      ///< "2026-01-31T12:00:00Z notice: MESSAGE"
    };
    form lines = form::plain;
    severity least = severity::info;  // less severe messages are dropped
    kevring::fd file;                 // invalid: standard error
};

/// `path` empty: standard error, in the form of the journal if it leads there. "journal": in that
/// form in any case. Otherwise a file that is appended to.
///
/// Errors     Throws std::system_error if the file cannot be opened.
std::shared_ptr<const error_log_target> open_error_log(const std::string& path, severity least);

/// Later messages go there. Null: standard error, as at the start.
///
/// Thread     Any; so may log_message() be called.
void set_error_log(std::shared_ptr<const error_log_target> target) noexcept;

/// Writes one line, of at most 4096 bytes. Does not wait for a pipe that is full.
void log_message(severity level, std::string_view message) noexcept;

/// An error that ends the program: to standard error as well if messages go to a file.
void log_fatal(std::string_view message) noexcept;

}  // namespace httpd
