// settings.hpp: how the server is to run, from its command line and its configuration file.
#pragma once

#include "examples/httpd/observe/access_log_format.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace httpd {

/// Whether the loops give up what is outside the root: where the kernel can do that, or else fail.
enum class sandbox_mode : std::uint8_t { automatic, enabled, disabled };

/// Constant once read; a reload reads others.
struct settings {
    std::string root = ".";
    std::vector<std::string> listen{"127.0.0.1:8080"};
    bool listen_given = false;  // or inherited sockets are enough
    std::string user;           // to be once the sockets are bound; empty: as started
    sandbox_mode sandbox = sandbox_mode::automatic;
    unsigned thread_count = 0;  // 0: one for each core that the process may use

    bool directory_listing = false;        // a page for a folder without index.html
    std::vector<std::string> headers;      // "Name: value", of each response
    std::vector<std::string> error_pages;  // "STATUS=FILE"
    bool precompressed = false;            // serve FILE.zst, .br and .gz to those who take them

    std::string access_log;  // empty: none; "-": standard output
    access_log_format log_format = access_log_format::common;

    std::string metrics;  // where /-/metrics is served; empty: nowhere

    unsigned connection_count_max = 100'000;          // of all loops together
    unsigned clients_rejecting_max = 64;              // at a time, by each loop, beyond those
    std::chrono::milliseconds head_time{10'000};      // from a head's first byte to its last
    std::chrono::milliseconds idle_time{60'000};      // between two requests
    std::chrono::milliseconds drain_time{10'000};     // for what is being sent when told to stop
    std::uint64_t send_bytes_per_second_min = 1'024;  // a slower client is cut off
    std::uint64_t body_bytes_max = 1 << 20;           // of a request; more is refused
    unsigned open_file_count_max = 2'000;             // in the cache of each loop
    std::size_t content_bytes_max = 0;                // of small files, in the cache of each loop
    bool force_copy = false;                          // never sends by reference to the page cache
};

/// Reads argv, and the file that --config names.
///
/// Result     The exit status where the program is to end at once, as after --help.
std::optional<int> parse_settings(int argc, char** argv, settings& target);

/// The same once more, while the program runs.
///
/// Errors     Throws std::runtime_error that says what is wrong.
settings reload_settings(int argc, char** argv);

}  // namespace httpd
