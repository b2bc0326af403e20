// paths.hpp: one function per path, and the preference order.
#pragma once

#include <kevring/runtime/task.hpp>
#include <kevring/sendfile/detail/transfer.hpp>
#include <kevring/sendfile/send_report.hpp>

#include <optional>
#include <string_view>
#include <system_error>

namespace kevring::detail {

// Each sends at least one byte, or returns an error, or marks its path as unsupported. It returns at
// the end of the transfer, or at bytes for which another path may be better.
task<std::error_code> run_send_path(transfer& transfer);
task<std::error_code> run_sendfile_path(transfer& transfer);
task<std::error_code> run_read_send_path(transfer& transfer);
task<std::error_code> run_splice_path(transfer& transfer);
task<std::error_code> run_zero_copy_path(transfer& transfer);

/// Sends the bytes that need no wait: for most files in the page cache, all. Nothing: the paths
/// continue at the next byte. Called before any path only.
std::optional<std::error_code> try_run(transfer& transfer);

struct path_row {
    send_path path;
    std::string_view name;  // in KEVRING_SEND_PATH, in logs, in tests
    send_reason reason;
    /// True if the path is suitable for the next bytes.
    bool (*fits)(transfer& transfer) noexcept;
    task<std::error_code> (*carry)(transfer& transfer);
};

struct path_choice {
    const path_row* row;
    send_reason reason;
};

/// The path for the next bytes: the forced one where it works, else the first suitable row.
path_choice choose_path(transfer& transfer) noexcept;

/// The path in KEVRING_SEND_PATH, read once.
std::optional<send_path> forced_by_environment() noexcept;

}  // namespace kevring::detail
