// bench/load/probe.hpp: plain blocking connections, for all that happens before and after the load.
//
// Each path is asked for once, so that the load itself need not look at a byte: it knows how long
// every response is, and counts. A response of another length is found by the count.
#pragma once

#include "bench/load/load_options.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace kevring::bench {

// A TCP socket for the load: not blocking at connect when `blocking` is false, no Nagle, bound to
// the `turn`th source address.
// Errors     std::system_error.
int make_socket(const load_options& options, std::uint64_t turn);

sockaddr_in server_address(const load_options& options);

// The targets of a run, with their lengths as the server now answers them.
// Errors     std::runtime_error: not 200, no Content-Length, or not within the timeout.
std::vector<load_target> learn_targets(const load_options& options);

// Connections that asked once and then stay. held() reports
// those that the server closed.
class idle_connections {
public:
    idle_connections(const load_options& options, const load_target& first);
    idle_connections(const idle_connections&) = delete;
    idle_connections& operator=(const idle_connections&) = delete;
    ~idle_connections();

    std::size_t held() const;
    std::size_t count() const { return fds_.size(); }

private:
    std::vector<int> fds_;
};

}  // namespace kevring::bench
