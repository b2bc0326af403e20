// access_log.hpp: one line for each request, written by the ring when there is time.
#pragma once

#include "access_log_format.hpp"

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace httpd {

/// The log of one loop. Lines collect in memory and go out together, each write a whole number of
/// lines, so that the loops' lines do not mix in the file.
///
/// Thread     That of its loop.
class access_log {
public:
    /// `path` empty: nothing is logged. "-": standard output.
    ///
    /// Errors     Throws std::system_error when the file cannot be opened.
    access_log(std::string path, access_log_format format);

    bool enabled() const noexcept { return file_.valid(); }
    void add(const access_record& record);

    /// Writes every second until stopped, then what is left.
    kevring::task<void> write_lines(kevring::ring& on);
    /// Opens the file anew before the next write, after it has been renamed; keeps the old one
    /// where that fails.
    void reopen() noexcept { reopen_ = true; }
    /// Lines that did not fit while the disk was too slow.
    std::uint64_t dropped_count() const noexcept { return dropped_count_; }

private:
    kevring::task<bool> write_now(kevring::ring& on);
    void open_anew() noexcept;

    std::string path_;
    access_log_formatter format_;
    kevring::fd file_;
    std::string pending_;
    std::string writing_;
    std::uint64_t dropped_count_ = 0;
    bool reopen_ = false;
};

}  // namespace httpd
