#include <kevring/net/connect.hpp>

#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/operations/connect.hpp>

#include <netinet/in.h>
#include <sys/socket.h>

namespace kevring {

task<result<socket>> connect(ring& loop, endpoint peer, connect_options options) {
    fd made(detail::above_standard(::socket(peer.family(), SOCK_STREAM | SOCK_CLOEXEC, 0)));
    if (!made) co_return error_from_errno();
    if (const auto set = set_options(made, options.socket); !set)
        co_return tl::unexpected(set.error());
    if (options.local_endpoint) {
        // Without this the kernel would take a port at bind(2), before it knows the peer, and run
        // out at one connection for each port.
        const int one = 1;
        if (options.local_endpoint->port() == 0)
            ::setsockopt(made.number(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (::bind(made.number(), options.local_endpoint->address(),
                   options.local_endpoint->address_bytes()) != 0)
            co_return error_from_errno();
    }
    connect_operation dial(loop, made, peer.address(), peer.address_bytes());
    const auto connected = co_await dial;
    if (!connected) co_return tl::unexpected(connected.error());
    co_return socket(loop, std::move(made));
}

}  // namespace kevring
