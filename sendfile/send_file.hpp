// send_file.hpp: a file into a socket, by whatever path is cheapest and never waits for a disk.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/sendfile/send_options.hpp>
#include <kevring/sendfile/send_order.hpp>
#include <kevring/sendfile/send_plan.hpp>
#include <kevring/sendfile/send_report.hpp>
#include <kevring/sendfile/send_turn.hpp>

#include <cstdint>

namespace kevring {

/// Sends header, a range of a file, and trailer to a connected stream socket.
///
///     send_options with;
///     with.header = head;
///     const auto report = co_await send_file(on, client.native(), file, range, with);
///     if (!report) ...  // report.error says why; report.bytes_sent of them are gone
///
/// The loop never waits for a disk: what is not in the page cache is read by the kernel's workers.
/// One turn of the loop moves at most a bounded number of bytes; a slow client holds no thread and
/// at most 256 KiB of memory.
///
/// Result     What was sent, on which path and why. `error` is none when all was sent.
/// Errors     In the report: operation_canceled, timed_out by the scope around it (with_stop(),
///            with_deadline(), within()); file_shrank, file_changed; broken_pipe, connection_reset;
///            those of read(2) and send(2). Before the first byte, whatever the range:
///            invalid_argument for a range that ends beyond INT64_MAX, and for a file whose size is
///            not that of its content (a pipe, a device, a file of proc(5)); is_a_directory.
///            std::bad_alloc is thrown.
/// Lifetime   `socket` and `file` stay open, and what `options` refers to stays valid, until the
///            await ends.
/// Thread     The ring's own. On first use of sendfile(2), SIGPIPE is blocked in this thread unless
///            the process ignores it.
/// In flight  One transfer and no other send on a socket at a time; options.order keeps several in
///            line.
/// Kernel     Sets O_NONBLOCK on the socket for sendfile and splice, and leaves it set: requests of
///            the ring wait on such a socket as on any other.
task<send_report> send_file(ring& on, fd_ref socket, fd_ref file, file_range range = file_range(),
                            send_options options = send_options());

/// The longest range that try_send_file() takes.
inline constexpr std::uint64_t at_once_bytes_max = 256 * 1024;

/// Sends what of the same goes without waiting: for most files in memory, all. Costs no frame of a
/// coroutine, which is a tenth of what 64 KiB cost.
///
///     const send_report at_once = try_send_file(on, client.native(), file, range, with);
///     if (at_once.error == std::errc::operation_would_block) ...  // send_file() for the rest
///
/// Takes ranges of more than 32 and at most 256 KiB with a version that is `expected`, and without
/// an order, a rate or a hint: of others it sends nothing, and nothing when this turn of the loop
/// has moved enough or others wait for one (send_turn).
///
/// Result     As of send_file(). What is left is what follows the first `bytes_sent` bytes of
///            header, range and trailer.
/// Errors     operation_would_block: something is left; otherwise those of send_file().
/// Lifetime   What `options` refers to stays valid until the call returns.
/// Thread     The ring's own, with the same effect on SIGPIPE.
/// In flight  No other send on the socket.
/// Kernel     As send_file().
send_report try_send_file(ring& on, fd_ref socket, fd_ref file, file_range range,
                          const send_options& options);

}  // namespace kevring
