// bench/load/load_options.hpp: the options of kevring-load.
#pragma once

#include <netinet/in.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace kevring::bench {

enum class load_mode {
    keep_alive,  // requests follow each other on a connection
    close,       // a connection for each request, closed by the server
    abort,       // a connection for each request, reset by us somewhere in the response
    echo,        // messages that come back as they are; no HTTP
    sink,        // messages to a server that only receives
    source,      // messages of a server that only sends
};

struct load_options {
    load_mode mode = load_mode::keep_alive;
    std::string host = "127.0.0.1";
    std::uint16_t port = 8080;
    std::vector<std::string> paths;
    std::vector<std::string> headers;
    std::vector<std::string> sources;  // addresses to connect from, in turn; empty: the system's
    std::string congestion;            // TCP congestion control; empty: the system's
    bool http10 = false;
    bool random_order = false;
    bool learn_by_head = false;  // HEAD beforehand instead of GET: no file is read for it

    unsigned threads = 1;
    unsigned connections = 64;             // of all threads together
    unsigned pipeline = 1;                 // requests on the way, on each connection
    unsigned requests_per_connection = 0;  // then we close it and open another; 0: no bound
    unsigned idle = 0;                     // further connections that ask once and are then held
    unsigned message_bytes = 64;           // echo, sink and source
    std::uint64_t rate = 0;  // requests a second of all threads together; 0: as fast as can be
    std::vector<int> cpus;   // to run on, one for each thread in turn; empty: any

    std::chrono::nanoseconds warm_up{0};
    std::chrono::nanoseconds duration = std::chrono::seconds(10);
    std::uint64_t requests = 0;  // ends the run sooner; 0: the duration alone does
    std::chrono::nanoseconds timeout = std::chrono::seconds(5);  // without any progress

    std::vector<int> server_pids;  // whose CPU time is reported

    std::string json;  // a file for the report; "-": standard output, and nothing else
};

// From the command line; ends the program with 2, or with 0 after --help, where there is nothing
// to do.
load_options parse_load_options(int argc, char** argv);

// One thing to ask for, and how many bytes come back, head and body.
struct load_target {
    std::string request;
    std::uint64_t response_bytes = 0;
};

}  // namespace kevring::bench
