// path_table.cpp: which path is taken when, in one place.
#include <kevring/runtime/assert.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/paths/paths.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>

namespace kevring {
namespace detail {
namespace {

// The figures behind the order are in docs/design/0050-sendfile.md.
//
//   small       One send of header and body costs 0.7 of sendfile(2) at 1 KiB, and as much at
//               32 KiB.
//   sendfile    From there on nothing is cheaper, but it waits for the disk inside the call: only
//               for bytes that are in the page cache.
//   splice      For what is not: a worker of the kernel waits for the disk, and nothing is copied.
//               Needs a pipe; there are few.
//   read_send   Never waits in the loop, and works on everything: last, and fits always.
//   zero_copy   First where it is asked for, and never by itself.
constexpr std::array path_table{
    path_row{send_path::zero_copy, "zero_copy", send_reason::asked_for,
             [](transfer& of) noexcept {
                 const std::uint64_t min = of.options.zero_copy_bytes_min;
                 return min > 0 && of.plan.file_sent() + of.plan.file_left() >= min;
             },
             carry_by_zero_copy},
    path_row{send_path::send, "send", send_reason::small,
             [](transfer& of) noexcept { return of.all_in_one_send(); }, carry_by_send},
    path_row{send_path::sendfile, "sendfile", send_reason::resident,
             [](transfer& of) noexcept { return !of.options.by_copy && of.window_is_resident(); },
             carry_by_sendfile},
    path_row{send_path::splice, "splice", send_reason::not_resident,
             [](transfer& of) noexcept {
                 return !of.options.by_copy && of.plan.file_left() > small_file_bytes;
             },
             carry_by_splice},
    path_row{send_path::read_send, "read_send", send_reason::not_resident,
             [](transfer&) noexcept { return true; }, carry_by_read_send},
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

path_choice choose_path(transfer& of) noexcept {
    const std::optional<send_path> forced =
        of.options.path ? of.options.path : forced_by_environment();
    if (forced && !of.refused(*forced))
        if (const path_row* const row = row_of(*forced)) return {row, send_reason::forced};
    for (const path_row& row : path_table) {
        if (of.refused(row.path) || !row.fits(of)) continue;
        send_reason reason = row.reason;
        if (row.path == send_path::read_send) {
            if (of.any_refused())
                reason = send_reason::refused;
            else if (of.options.by_copy)
                reason = send_reason::copy_wanted;
        }
        return {&row, reason};
    }
    // Reading and sending was refused: it is the last, and its error ends the transfer.
    KEVRING_ASSERT(
        false,
        "internal error: no path is left for a transfer; report it with the call that led to it");
    return {&path_table.back(), send_reason::refused};
}

}  // namespace detail

std::string_view name_of(send_path path) noexcept {
    const detail::path_row* const row = detail::row_of(path);
    return row != nullptr ? row->name : "unknown";
}

}  // namespace kevring
