// paths.hpp: one function for each path, and the table of preference.
#pragma once

#include <kevring/runtime/task.hpp>
#include <kevring/sendfile/detail/transfer.hpp>
#include <kevring/sendfile/send_report.hpp>

#include <optional>
#include <string_view>
#include <system_error>

namespace kevring::detail {

// Each carries at least one byte, or gives an error, or marks its path as refused. It comes back
// when all is sent, or when bytes follow that another path may carry better.
task<std::error_code> carry_by_send(transfer& of);
task<std::error_code> carry_by_sendfile(transfer& of);
task<std::error_code> carry_by_read_send(transfer& of);
task<std::error_code> carry_by_splice(transfer& of);
task<std::error_code> carry_by_zero_copy(transfer& of);

/// Sends what goes without waiting: for most files in memory, all. None: the paths carry on, from
/// wherever this has come to. May be called before them only.
std::optional<std::error_code> carry_at_once(transfer& of);

struct path_row {
    send_path path;
    std::string_view name;  // in KEVRING_SEND_PATH, in logs, in tests
    send_reason reason;
    /// Whether the path is the right one for the next bytes.
    bool (*fits)(transfer& of) noexcept;
    task<std::error_code> (*carry)(transfer& of);
};

struct path_choice {
    const path_row* row;
    send_reason reason;
};

/// The path for the next bytes: the forced one where it works, else the first row that fits.
path_choice choose_path(transfer& of) noexcept;

/// The path that the environment forces, read once.
std::optional<send_path> forced_by_environment() noexcept;

}  // namespace kevring::detail
