// send_file.hpp: sends part of a file to a socket by the cheapest path that never waits for a disk.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/sendfile/send_budget.hpp>
#include <kevring/sendfile/send_options.hpp>
#include <kevring/sendfile/send_plan.hpp>
#include <kevring/sendfile/send_queue.hpp>
#include <kevring/sendfile/send_report.hpp>

#include <cstdint>

namespace kevring {

/// Sends header, a range of a file, and trailer to a connected stream socket.
///
///     send_options options;
///     options.header = head;
///     const auto report = co_await send_file(loop, client.native(), file, range, options);
///     if (!report) ...  // report.error is the reason; report.bytes_sent bytes were sent before
///
/// The loop never waits for a disk: worker threads of the kernel read bytes that are not in the
/// page cache. One loop iteration sends a bounded number of bytes. A slow peer occupies no thread
/// and at most 256 KiB of memory.
///
/// Result     The number of bytes sent, the paths in use and their reasons. `error` is none if all
///            bytes were sent.
/// Errors     In the report: operation_canceled, timed_out, from the scope around it (with_stop(),
///            with_deadline(), within()); file_shrank, file_changed; broken_pipe, connection_reset;
///            those of read(2) and send(2); operation_not_permitted, and no byte is sent, in a process
///            that was forked from the ring's. Before the first byte, regardless of the range:
///            invalid_argument for a range that ends beyond INT64_MAX, and for a file whose size is
///            not that of its content (a pipe, a device, a file of proc(5)); is_a_directory.
///            std::bad_alloc is thrown.
/// Lifetime   `socket` and `file` stay open, and all that `options` refers to stays valid, until
///            the await completes.
/// Thread     The loop's thread. The first use of sendfile(2) blocks SIGPIPE in this thread, unless
///            the process ignores the signal.
/// In flight  One transfer and no other send per socket; options.queue serializes transfers.
/// Kernel     Sets O_NONBLOCK on the socket for sendfile and splice, and leaves it set. Requests of
///            a ring wait on such a socket as on any other.
task<send_report> send_file(ring& loop, fd_ref socket, fd_ref file, file_range range = file_range(),
                            send_options options = send_options());

/// The longest range that try_send_file() accepts.
inline constexpr std::uint64_t try_send_bytes_max = 256 * 1024;

/// Sends the bytes that need no wait: for most files in the page cache, all. Needs no coroutine
/// frame, which saves a tenth of the cost of 64 KiB.
///
///     const send_report report = try_send_file(loop, client.native(), file, range, options);
///     if (report.error == std::errc::operation_would_block) ...  // send_file() for the rest
///
/// Accepts ranges of more than 32 and at most 256 KiB with an `expected` version, and without a
/// queue, a rate or a hint. It sends no byte of other ranges, and no byte if the loop iteration has
/// no budget left or other transfers wait for it (send_budget).
///
/// Result     As for send_file(). The rest begins after the first `bytes_sent` bytes of header,
///            range and trailer.
/// Errors     operation_would_block if bytes are left; else those of send_file().
/// Lifetime   All that `options` refers to stays valid until the call returns.
/// Thread     The loop's thread, with the same effect on SIGPIPE.
/// In flight  No other send on the socket.
/// Kernel     As for send_file().
send_report try_send_file(ring& loop, fd_ref socket, fd_ref file, file_range range,
                          const send_options& options);

}  // namespace kevring
