// transfer.hpp: one transfer on its way: where it is, what it may do, what it has done.
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

/// What the paths share. A path moves the plan on, notes what it has sent, and comes back when all
/// is sent, when another path is better for what follows, or with an error.
///
/// Lifetime   Lives in send_file() or try_send_file().
/// Thread     The ring's own.
class transfer {
public:
    /// `scope` is what stops it; null: nothing does.
    transfer(ring& on, fd_ref socket, fd_ref file, const send_plan& plan,
             const send_options& options, const cancel_scope* scope) noexcept
        : on(on),
          socket(socket),
          file(file),
          plan(plan),
          options(options),
          scope(scope),
          pace(options.bytes_per_second_max, options.bytes_per_second_max == 0 ? 0 : on.now_ns()) {}
    transfer(const transfer&) = delete;
    transfer& operator=(const transfer&) = delete;

    // Constant.
    ring& on;
    const fd_ref socket;
    const fd_ref file;

    send_plan plan;
    const send_options& options;
    const cancel_scope* const scope;
    const send_pace pace;
    send_report report;

    // Choosing.

    /// A path that has been tried and cannot work here is not tried again.
    void refuse(send_path path) noexcept { refused_ |= 1U << static_cast<unsigned>(path); }
    bool refused(send_path path) const noexcept {
        return (refused_ >> static_cast<unsigned>(path) & 1U) != 0;
    }
    bool any_refused() const noexcept { return refused_ != 0; }
    bool all_in_one_send() const noexcept;
    /// True when a path is used because it is the one asked for, not because it is the best.
    bool forced() const noexcept { return forced_; }
    /// True when the window at `file_offset` is in the page cache, so that nobody waits for a disk.
    /// Asked once for each window; `window_end()` is how far the answer reaches.
    bool window_is_resident(std::uint64_t file_offset) noexcept;
    bool window_is_resident() noexcept { return window_is_resident(plan.file_offset()); }
    /// True when sendfile should take what follows `file_offset` from the path that is at work.
    bool suits_sendfile(std::uint64_t file_offset) noexcept {
        return !forced_ && !options.by_copy && !refused(send_path::sendfile) &&
               window_is_resident(file_offset);
    }
    std::uint64_t window_end() const noexcept { return window_end_; }
    /// The answer is old: bytes may have left the page cache.
    void forget_window() noexcept { window_begin_ = window_end_ = 0; }

    // Doing.

    /// Whether direct calls on the socket say that it is full rather than wait; makes them so
    /// unless the options forbid it. Requests of the ring wait in the kernel either way.
    bool may_call_directly() noexcept;
    /// Bytes have gone by direct calls, and nobody else has run since.
    bool has_moved = false;
    /// The socket took no more when it was last asked.
    bool is_full = false;
    /// carry_at_once() has begun what carry_by_sendfile() is to carry on.
    bool is_under_way = false;

    /// How many bytes of the file a step may have, of `unlimited`.
    std::size_t step_bytes_max(std::size_t unlimited) const noexcept {
        return pace.step_bytes_max(unlimited);
    }
    /// Notes that the kernel has taken `count` bytes on a path.
    void taken(send_path path, std::uint64_t count) noexcept;
    /// Notes why a path is used from here on.
    void uses(send_path path, send_reason reason) noexcept;

    /// The file as it must still be when its last byte goes out; `seen_now`: as it is.
    void expect(const file_version& version, bool seen_now) noexcept;
    /// Whether the file is still what it was, for a transfer that watches it.
    std::error_code check_version() noexcept;
    /// The file has become shorter: its new end is that of the transfer.
    std::error_code end_with_file() noexcept;
    /// What is remembered of the file; null: nothing.
    file_memo* memo() const noexcept { return options.expected ? options.memo : nullptr; }

    /// The error that stands for a stop of the transfer's scope; none while it may run.
    std::error_code stopped() const noexcept;

private:
    std::uint64_t window_begin_ = 0;
    std::uint64_t window_end_ = 0;
    bool window_resident_ = false;
    bool forced_ = false;
    bool watched_ = false;
    unsigned refused_ = 0;
    std::uint64_t seen_at_ = 0;
    file_version version_;
    send_path last_path_ = send_path::send;
};

/// The parts of a message in memory: header, a piece of the file, trailer.
///
/// Lifetime   Refers to the options' buffers and to `file_bytes`.
class message_parts {
public:
    /// `step` says how much of each; headers of very many parts may need several messages.
    message_parts(const transfer& of, const send_step& step,
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

// Steps that several paths take. Each gives the error that ends the transfer, or none.

/// Sends all of `step`, whose file bytes are in `file_bytes`, through the ring.
task<std::error_code> send_from_memory(transfer& of, send_path path, send_step step,
                                       std::span<const std::byte> file_bytes);
/// Sends what is left of the header, or of the trailer where the file has gone, as send_now()
/// does; of very many parts, some.
ssize_t send_frame_part(transfer& of) noexcept;
/// Sends header or trailer bytes of `step` now, as much as the socket takes.
task<std::error_code> send_frame_now(transfer& of, send_path path, send_step step);
/// Reads `into.size()` bytes at `file_offset`, waiting for the disk in the kernel's workers;
/// `fixed` is the registered buffer that `into` is part of, or null.
task<std::error_code> read_all(transfer& of, std::span<std::byte> into, std::uint64_t file_offset,
                               const fixed_buffer* fixed = nullptr);
/// Waits until the socket takes bytes again.
task<std::error_code> wait_writable(transfer& of);
/// Waits until the rate allows the next step; gives way to others when this transfer `has_moved`
/// its share, or when all of them have done enough in this turn of the loop: then they move on in
/// the order in which they came, in as many turns as it takes. Fails when the transfer is stopped.
task<std::error_code> wait_for_turn(transfer& of, bool has_moved);

/// Accounts for bytes that were moved inside a turn of the loop.
void count_in_turn(ring& on, std::size_t byte_count);

/// Whether wait_for_turn() has nothing to wait for, unless the transfer `has_moved`.
bool turn_is_free(const transfer& of);

/// Keeps SIGPIPE from this thread, which sendfile(2) and splice(2) raise and cannot be told not to.
void quiet_broken_pipes() noexcept;
/// Takes back a SIGPIPE that a call which gave EPIPE has left pending.
void forget_broken_pipe() noexcept;

}  // namespace kevring::detail
