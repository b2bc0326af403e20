// access_log.hpp: one line for each request, written by the ring when there is time.
#pragma once

#include "access_log_format.hpp"
#include "log_target.hpp"

#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace httpd {

/// The log of one loop. Lines collect in memory and go out together, each write a whole number of
/// lines, so that the loops' lines do not mix in the file.
///
/// Thread     That of its loop.
class access_log {
public:
    /// `target` null: nothing is logged.
    explicit access_log(std::shared_ptr<const log_target> target);

    bool enabled() const noexcept { return target_ != nullptr; }
    void add(const access_record& record);

    /// Switches to another file, or to the same one opened again. Pending lines are written to the
    /// new one where name and format are the same, as after the file was renamed, else to the
    /// previous one.
    void set_target(std::shared_ptr<const log_target> target);

    /// Writes every second until stopped, then what is left. Ends by itself when nothing is logged
    /// any more; one runs at a time.
    kevring::task<void> run(kevring::ring& loop);
    bool is_running() const noexcept { return is_running_; }

    /// Lines that did not fit while the disk was too slow.
    std::uint64_t dropped_count() const noexcept { return dropped_count_; }

private:
    struct lines {
        std::shared_ptr<const log_target> target;
        std::string text;
    };

    void collect();
    kevring::task<bool> write_now(kevring::ring& loop);

    std::shared_ptr<const log_target> target_;
    access_log_formatter format_;
    std::string pending_;
    std::vector<lines> pending_writes_;  // in the order in which they are to be written
    std::uint64_t dropped_count_ = 0;
    bool is_running_ = false;
};

}  // namespace httpd
