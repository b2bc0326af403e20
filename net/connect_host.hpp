// connect_host.hpp: connects to a host name, trying its addresses in a staggered race (RFC 8305). The
// reasons are in docs/design/0080-host-names.md.
//
//     auto connected = co_await kevring::connect("example.org:443");
//     if (!connected) report(connected.describe());  // each address, and its error
#pragma once

#include <kevring/net/connect.hpp>
#include <kevring/net/endpoint.hpp>
#include <kevring/net/resolve.hpp>
#include <kevring/net/socket.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace kevring {

struct connect_host_options {
    /// The time that an attempt has before the next address is tried as well. RFC 8305 (section 5)
    /// recommends 250 ms, and allows 10 ms to 2 s; a smaller value counts as 10 ms.
    clamped_duration attempt_delay = std::chrono::milliseconds(250);
    /// The number of addresses that are tried, the first ones of the interleaved list.
    std::size_t attempt_count_max = 16;
    /// For each attempt. An address to come from excludes the addresses of other families.
    connect_options connection{};
    /// The source of addresses; null: resolver::shared(). It outlives the await.
    resolver* names = nullptr;
};
static_assert(std::is_trivially_copyable_v<connect_host_options>);  // for g++ 12: docs/gcc-12.md

/// One address that was tried.
struct connect_attempt {
    endpoint address;
    /// The reason why this is not the connection; none for the one that is. operation_canceled: another
    /// address was faster, or the scope was stopped; timed_out: a deadline has ended the attempt.
    std::error_code error;
};

/// The connection, or an error, and all attempts in the order of their start.
class [[nodiscard]] connect_result : public result<socket> {
public:
    connect_result(std::string target, socket connected, std::vector<connect_attempt> attempts)
        : result<socket>(std::move(connected)),
          target_(std::move(target)),
          attempts_(std::move(attempts)) {}
    connect_result(std::string target, std::error_code error, std::vector<connect_attempt> attempts)
        : result<socket>(tl::unexpected<std::error_code>(error)),
          target_(std::move(target)),
          attempts_(std::move(attempts)) {}

    /// The addresses that were tried; none if the name was not resolved.
    const std::vector<connect_attempt>& attempts() const noexcept { return attempts_; }
    /// One line for a log: the target, and the error of each address; where no address was tried, the
    /// error. `example.org:80: [2001:db8::1]:80: Network is unreachable; 192.0.2.1:80: Connection
    /// refused`
    std::string describe() const;

private:
    std::string target_;
    std::vector<connect_attempt> attempts_;
};

/// The order in which addresses are tried: the families alternate, beginning with that of the first
/// address, and each keeps its order (RFC 8305, section 4, with a First Address Family Count of 1).
std::vector<endpoint> interleave_families(const std::vector<endpoint>& addresses);

/// Connects to the first of `addresses` that answers. They are tried in their order; the next attempt
/// begins when one has failed, or after the delay of the options. The first connection wins: the other
/// attempts are stopped, and their sockets closed, before the await completes.
///
/// Result     The connection. connect_result::attempts() also has the other addresses that were tried.
/// Errors     That of the first address, if all have failed; connect_result::attempts() has each.
///            resolve_errc::no_address for no addresses; operation_canceled and timed_out by the scope
///            around it: a limit is with_timeout() or within().
/// Thread     The loop's thread.
/// Source     RFC 8305. The addresses of both families are known together, so its resolution delay
///            does not apply.
task<connect_result> connect_first(ring& loop, std::vector<endpoint> addresses,
                                   connect_host_options options = {});

/// Connects to `target`: HOST:PORT with a name or an address, [IPV6]:PORT, or unix:PATH. The port is a
/// number or a name of services(5). A name is resolved, its addresses are interleaved, and
/// connect_first() tries them.
///
/// Errors     endpoint_errc: the part of the text that is wrong; those of resolver::resolve(); those of
///            connect_first().
/// Thread     The loop's thread. The second form takes the ring that the thread drives.
task<connect_result> connect(ring& loop, std::string_view target,
                             connect_host_options options = {});
task<connect_result> connect(std::string_view target, connect_host_options options = {});

}  // namespace kevring
