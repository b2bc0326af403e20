// transfer.hpp: the state of one transfer: position, permitted paths, result.
#pragma once

#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/fixed_buffer_pool.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/sendfile/send_options.hpp>
#include <kevring/sendfile/send_plan.hpp>
#include <kevring/sendfile/send_report.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <system_error>

#include <sys/uio.h>

namespace kevring::detail {

/// The state that the paths share. A path advances the plan, records the bytes it has sent, and
/// returns at the end of the transfer, at bytes for which another path is better, or with an error.
///
/// Lifetime   A local variable of send_file() or try_send_file().
/// Thread     The loop's thread.
class transfer {
public:
    /// A stop of `scope` ends the transfer; null: it cannot be stopped.
    transfer(ring& loop, fd_ref socket, fd_ref file, const send_plan& plan,
             const send_options& options, const cancel_scope* scope) noexcept
        : loop(loop),
          socket(socket),
          file(file),
          plan(plan),
          options(options),
          scope(scope),
          pace(options.bytes_per_second_max,
               options.bytes_per_second_max == 0 ? 0 : loop.now_ns()) {}
    transfer(const transfer&) = delete;
    transfer& operator=(const transfer&) = delete;

    // Constant.
    ring& loop;
    const fd_ref socket;
    const fd_ref file;

    send_plan plan;
    const send_options& options;
    const cancel_scope* const scope;
    const send_pace pace;
    send_report report;

    // Selection of the path.

    /// Excludes a path that does not work with these descriptors.
    void mark_unsupported(send_path path) noexcept {
        unsupported_ |= 1U << static_cast<unsigned>(path);
    }
    bool is_unsupported(send_path path) const noexcept {
        return (unsupported_ >> static_cast<unsigned>(path) & 1U) != 0;
    }
    bool any_unsupported() const noexcept { return unsupported_ != 0; }
    bool all_in_one_send() const noexcept;
    /// True if the options or the environment selected the path.
    bool forced() const noexcept { return forced_; }
    /// True if the window at `file_offset` is in the page cache, so that a read does not wait for the
    /// disk. Queried once per window; the answer is valid up to `window_end()`.
    bool window_is_resident(std::uint64_t file_offset) noexcept;
    bool window_is_resident() noexcept { return window_is_resident(plan.file_offset()); }
    /// True if the current path should leave the bytes after `file_offset` to sendfile.
    bool suits_sendfile(std::uint64_t file_offset) noexcept {
        return !forced_ && !options.force_copy && !is_unsupported(send_path::sendfile) &&
               window_is_resident(file_offset);
    }
    std::uint64_t window_end() const noexcept { return window_end_; }
    /// Discards the answer about the window: the kernel may have reclaimed pages in the meantime.
    void invalidate_window() noexcept { window_begin_ = window_end_ = 0; }

    // Progress.

    /// True if direct calls on a full socket fail with EAGAIN instead of waiting. Sets O_NONBLOCK unless
    /// the options forbid it. Requests of the ring wait in the kernel in either case.
    bool may_call_directly() noexcept;
    /// The same after a wait, in which the program may have made a socket that it shares blocking.
    bool may_still_call_directly() noexcept {
        return !options.keep_blocking || may_call_directly();
    }
    /// Direct calls have sent bytes, and no other task has run since.
    bool moved_this_iteration = false;
    /// The last direct call found the socket full.
    bool would_block = false;
    /// try_run() has begun a transfer that run_sendfile_path() continues.
    bool sendfile_started = false;

    /// The largest step in bytes of the file, at most `unlimited`.
    std::size_t step_bytes_max(std::size_t unlimited) const noexcept {
        return pace.step_bytes_max(unlimited);
    }
    /// Records that the kernel has accepted `count` bytes on a path.
    void record_sent(send_path path, std::uint64_t count) noexcept;
    /// Records the path of the next bytes and its reason.
    void record_path(send_path path, send_reason reason) noexcept;

    /// The version that the file must have before its last byte is sent; `seen_now`: just read.
    void expect_version(const file_version& version, bool seen_now) noexcept;
    /// The error of a file that has changed since; none if the transfer expects no version.
    std::error_code check_version() noexcept;
    /// Ends the transfer at the new end of a file that has become shorter.
    std::error_code end_at_eof() noexcept;
    /// The cached state of the file; null: none.
    file_state_cache* state_cache() const noexcept {
        return options.expected ? options.state_cache : nullptr;
    }

    /// The error after a stop of the transfer's scope; none before.
    std::error_code stopped() const noexcept;

private:
    std::uint64_t window_begin_ = 0;
    std::uint64_t window_end_ = 0;
    bool window_resident_ = false;
    bool forced_ = false;
    bool watched_ = false;
    unsigned unsupported_ = 0;
    std::uint64_t seen_at_ = 0;
    file_version version_;
    send_path last_path_ = send_path::send;
};

/// The parts of a message in memory: header, part of the file, trailer.
///
/// Lifetime   Refers to the options' buffers and to `file_bytes`.
class message_parts {
public:
    /// `step` has the bytes of each; headers with many parts may need several messages.
    message_parts(const transfer& transfer, const send_step& step,
                  std::span<const std::byte> file_bytes) noexcept;

    std::span<iovec> parts() noexcept { return {parts_.data(), count_}; }
    std::size_t byte_count() const noexcept { return byte_count_; }

private:
    void add(std::span<const std::byte> bytes) noexcept;
    void add(const send_buffers& buffers, std::size_t skip, std::size_t count) noexcept;

    std::array<iovec, 16> parts_;
    std::size_t count_ = 0;
    std::size_t byte_count_ = 0;
};

// Steps that several paths have in common. Each returns the error that ends the transfer, or none.

/// Sends all bytes of `step` by requests of the ring; its file bytes are in `file_bytes`.
task<std::error_code> send_from_memory(transfer& transfer, send_path path, send_step step,
                                       std::span<const std::byte> file_bytes);
/// Sends bytes of the header, or of the trailer after the file, by sendmsg_nowait(): all that are left, or
/// fewer if they have many parts.
ssize_t send_header_or_trailer_part(transfer& transfer) noexcept;
/// Sends the header or trailer bytes of `step` by direct calls; waits while the socket is full.
task<std::error_code> send_header_or_trailer_nowait(transfer& transfer, send_path path,
                                                    send_step step);
/// Reads `buffer.size()` bytes at `file_offset`; worker threads of the kernel wait for the disk.
/// `fixed` is the registered buffer that contains `buffer`, or null.
task<std::error_code> read_all(transfer& transfer, std::span<std::byte> buffer,
                               std::uint64_t file_offset, const fixed_buffer* fixed = nullptr);
/// Waits until the socket is writable.
task<std::error_code> wait_writable(transfer& transfer);
/// Waits until the rate permits the next step. Yields to other tasks if this transfer has sent bytes
/// (`moved_this_iteration`) or the budget of the iteration is used up; waiting transfers continue in
/// FIFO order. Returns an error after a stop.
task<std::error_code> wait_for_budget(transfer& transfer, bool moved_this_iteration);

/// Charges bytes to the budget of this loop iteration.
void charge_budget(ring& loop, std::size_t byte_count);

/// True if wait_for_budget() would not wait, unless the transfer `moved_this_iteration`.
bool budget_available(const transfer& transfer);

/// Blocks SIGPIPE in this thread: sendfile(2) and splice(2) raise it, and know no MSG_NOSIGNAL.
void block_sigpipe() noexcept;
/// Discards the pending SIGPIPE of a call that failed with EPIPE.
void discard_pending_sigpipe() noexcept;

}  // namespace kevring::detail
