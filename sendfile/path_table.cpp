// path_table.cpp: the preference order of the paths.
#include <kevring/runtime/assert.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/paths/paths.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>

namespace kevring {
namespace detail {
namespace {

// The measurements behind the order are in docs/design/0050-sendfile.md.
//
//   small       One send of header and body costs 0.7 of sendfile(2) at 1 KiB, and the same at
//               32 KiB.
//   sendfile    The cheapest path above that, but the call waits for the disk: only for bytes in
//               the page cache.
//   splice      For other bytes: a worker thread of the kernel waits for the disk, and no byte is
//               copied. Needs one of a few pipes.
//   read_send   Never waits in the loop, and works with every file and socket: the last row.
//   zero_copy   The first row where the options request it; never selected otherwise.
constexpr std::array path_table{
    path_row{send_path::zero_copy, "zero_copy", send_reason::requested,
             [](transfer& transfer) noexcept {
                 const std::uint64_t min = transfer.options.zero_copy_bytes_min;
                 return min > 0 && transfer.plan.file_sent() + transfer.plan.file_left() >= min;
             },
             run_zero_copy_path},
    path_row{send_path::send, "send", send_reason::small,
             [](transfer& transfer) noexcept { return transfer.all_in_one_send(); }, run_send_path},
    path_row{send_path::sendfile, "sendfile", send_reason::resident,
             [](transfer& transfer) noexcept {
                 return !transfer.options.force_copy && transfer.window_is_resident();
             },
             run_sendfile_path},
    path_row{send_path::splice, "splice", send_reason::not_resident,
             [](transfer& transfer) noexcept {
                 return !transfer.options.force_copy &&
                        transfer.plan.file_left() > small_file_bytes;
             },
             run_splice_path},
    path_row{send_path::read_send, "read_send", send_reason::not_resident,
             [](transfer&) noexcept { return true; }, run_read_send_path},
};

const path_row* row_of(send_path path) noexcept {
    for (const path_row& row : path_table)
        if (row.path == path) return &row;
    return nullptr;
}

}  // namespace

std::optional<send_path> forced_by_environment() noexcept {
    static const std::optional<send_path> forced = []() -> std::optional<send_path> {
        const char* const wanted = std::getenv("KEVRING_SEND_PATH");
        if (wanted == nullptr || *wanted == '\0') return std::nullopt;
        for (const path_row& row : path_table)
            if (row.name == wanted) return row.path;
        std::fprintf(stderr, "kevring: KEVRING_SEND_PATH=%s is no path; it is ignored\n", wanted);
        return std::nullopt;
    }();
    return forced;
}

path_choice choose_path(transfer& transfer) noexcept {
    const std::optional<send_path> forced =
        transfer.options.path ? transfer.options.path : forced_by_environment();
    if (forced && !transfer.is_unsupported(*forced))
        if (const path_row* const row = row_of(*forced)) return {row, send_reason::forced};
    for (const path_row& row : path_table) {
        if (transfer.is_unsupported(row.path) || !row.fits(transfer)) continue;
        send_reason reason = row.reason;
        if (row.path == send_path::read_send) {
            if (transfer.any_unsupported())
                reason = send_reason::fallback;
            else if (transfer.options.force_copy)
                reason = send_reason::copy_required;
        }
        return {&row, reason};
    }
    // read_send is the last row, and its error ends the transfer.
    KEVRING_ASSERT(
        false,
        "internal error: no path is left for a transfer; report it with the call that led to it");
    return {&path_table.back(), send_reason::fallback};
}

}  // namespace detail

std::string_view name_of(send_path path) noexcept {
    const detail::path_row* const row = detail::row_of(path);
    return row != nullptr ? row->name : "unknown";
}

}  // namespace kevring
