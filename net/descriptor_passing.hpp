// descriptor_passing.hpp: open files and identities through a Unix socket.
#pragma once

#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include <sys/types.h>

namespace kevring {

/// The sender of a message, as the kernel knows it.
struct peer_credentials {
    pid_t process = 0;
    uid_t user = 0;
    gid_t group = 0;
};

/// The bytes, descriptors and credentials of a message.
struct received_descriptors {
    std::size_t byte_count =
        0;                   // in the buffer; 0 from a stream: the peer has ended its sending side
    bool truncated = false;  // the end of a message did not fit into the buffer
    std::vector<fd> descriptors;  // close-on-exec, no standard descriptors
    std::optional<peer_credentials> credentials;
};

/// Descriptors in one message: the kernel's bound.
inline constexpr std::size_t passed_descriptor_count_max = 253;

/// Sends `bytes` and duplicates of `descriptors` to the peer of a Unix socket, in one message. A stream
/// socket needs at least one byte.
///
/// Result     The number of bytes, which may be fewer than given on a stream socket; the descriptors go
///            with the first.
/// Errors     operation_canceled, timed_out; invalid_argument for more than passed_descriptor_count_max,
///            or for no byte on a stream; bad_file_descriptor; otherwise as for sendmsg(2).
/// Lifetime   `bytes`, `descriptors` and the open files stay valid until the await completes.
/// Thread     The loop's thread.
task<result<std::size_t>> send_descriptors(ring& loop, fd_ref socket,
                                           std::span<const std::byte> bytes,
                                           std::span<const fd_ref> descriptors);
template <byte_view Bytes>
task<result<std::size_t>> send_descriptors(ring& loop, fd_ref socket, const Bytes& bytes,
                                           std::span<const fd_ref> descriptors) {
    return send_descriptors(loop, socket, bytes_of(bytes), descriptors);
}

/// Receives bytes and at most `descriptor_count_max` descriptors.
///
/// Errors     operation_canceled, timed_out; message_size if the message had more descriptors, and then
///            all of it is lost and all of them are closed; too_many_files_open likewise if this process
///            can have no more; invalid_argument for a count above passed_descriptor_count_max; otherwise
///            as for recvmsg(2).
/// Lifetime   `buffer` stays valid until the await completes.
/// Thread     The loop's thread.
task<result<received_descriptors>> receive_descriptors(ring& loop, fd_ref socket,
                                                       std::span<std::byte> buffer,
                                                       std::size_t descriptor_count_max);

/// Makes receive_descriptors() report the sender of each message (SO_PASSCRED).
///
/// Errors     As for setsockopt(2).
result<void> pass_credentials(fd_ref socket) noexcept;

}  // namespace kevring
