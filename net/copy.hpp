// copy.hpp: bytes from one connection to another, as a proxy passes them on.
#pragma once

#include <kevring/net/socket.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <cstdint>
#include <system_error>

namespace kevring {

/// Sends to `target` all bytes that `source` receives, until the peer of `source` has ended its
/// sending side; then ends the sending side of `target`. One buffer is in use at a time: a `target`
/// that takes nothing holds back the peer of `source`.
///
/// Result     The number of bytes.
/// Errors     Those of receive_stream and send_operation. Bytes that were received and not sent are
///            lost; both connections should be closed then.
/// Lifetime   Both sockets outlive the await.
/// Thread     The loop's thread.
/// In flight  It is the only receive of `source` and the only send of `target`.
task<result<std::uint64_t>> copy(socket& source, socket& target);

/// The bytes that copy_both() has sent, and the first error of the two directions.
struct copy_both_result {
    std::uint64_t to_second = 0;
    std::uint64_t to_first = 0;
    std::error_code error;
};

/// The same in both directions at once. The end of one peer's sending side is passed on, and the
/// other direction continues until it ends as well (half-close). An error of one direction stops
/// the other.
///
/// Result     The bytes of each direction, also with an error.
/// Lifetime   Both sockets outlive the await.
/// Thread     The loop's thread.
/// In flight  It is the only receive and the only send of both sockets.
task<copy_both_result> copy_both(socket& first, socket& second);

}  // namespace kevring
