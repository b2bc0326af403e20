// settings.hpp: the options of the command line and of the configuration file.
#pragma once

#include "examples/httpd/observe/access_log_format.hpp"
#include "examples/httpd/observe/severity.hpp"
#include "option_text.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace httpd {

/// Whether the loops give up files outside the root: if the kernel supports it, or fail otherwise.
enum class sandbox_mode : std::uint8_t { automatic, enabled, disabled };

/// Options of one site. A [host] section of the file starts with the values outside of sections.
struct site_settings {
    option_text root{".", "--root"};
    std::vector<std::string> index_names{"index.html"};
    bool directory_listing = false;              // list a directory that has no index file
    unsigned listing_entry_count_max = 100'000;  // of one directory's page
    bool hidden_files = false;                   // serve names that begin with a dot
    bool precompressed = false;                  // serve FILE.zst, FILE.br and FILE.gz
    bool compress = false;                       // by zstd or gzip, when they are asked for
    std::vector<std::string> compress_types{"text/*",           "application/javascript",
                                            "application/json", "application/xml",
                                            "application/wasm", "image/svg+xml"};
    std::uint64_t compress_bytes_min = 1'024;    // of a file
    std::uint64_t compress_bytes_max = 1 << 20;  // of a file
    std::vector<option_text> headers;            // "Name: value", of each response
    std::vector<option_text> path_headers;       // "PATTERN Name: value"
    std::vector<option_text> cache_control;      // "PATTERN VALUE"
    std::vector<option_text> cors;               // "PATTERN ORIGIN"
    std::vector<option_text> error_pages;        // "STATUS=FILE"
    std::vector<option_text> redirects;          // "FROM TO [STATUS]"
    std::vector<option_text> media_types;        // "EXTENSION=TYPE"
    option_text fallback;                        // file for paths that lead to none; empty: 404
    bool drop_html = false;                      // /page leads to page.html
    std::vector<option_text> allow;              // networks; empty: all
    std::vector<option_text> deny;               // networks
    std::vector<option_text> auth;               // "PATTERN FILE [REALM]"
    bool force_copy = false;                     // never sends by reference to the page cache
};

/// A site that requests select by their Host.
struct host_settings {
    std::vector<std::string> names;  // in lower case; "*.example.org" stands for all below it
    std::string place;               // of its section, for messages
    site_settings site;
};

/// Constant once read; a reload reads others.
struct settings {
    site_settings site;
    std::vector<host_settings> hosts;

    std::vector<option_text> listen{{"127.0.0.1:8080", "--listen"}};
    bool listen_given = false;            // otherwise inherited sockets are enough
    std::vector<option_text> listen_tls;  // addresses of https
    option_text tls_cert;                 // PEM file of the certificate chain
    option_text tls_key;                  // PEM file of its key; empty: in that file
    std::optional<unsigned> unix_mode;    // permissions of Unix sockets; none: by the umask
    option_text unix_owner;               // "USER" or "USER:GROUP" of Unix sockets
    option_text user;                     // to switch to once the sockets are bound; empty: none
    sandbox_mode sandbox = sandbox_mode::automatic;
    unsigned thread_count = 0;  // 0: one loop for each core that the process may use

    option_text access_log;  // empty: none; "-": standard output
    access_log_format log_format = access_log_format::common;
    option_text error_log;  // empty: standard error; "journal": the same, with levels
    severity error_log_level = severity::info;
    option_text metrics;  // address of the metrics listener; empty: none

    unsigned connection_count_max = 100'000;          // of all loops together
    unsigned connections_per_address_max = 0;         // 0: no limit
    std::vector<option_text> trusted_proxies;         // networks whose X-Forwarded-For counts
    std::vector<option_text> proxy_protocol;          // networks that send a PROXY header
    unsigned clients_rejecting_max = 64;              // at a time, by each loop, beyond those
    std::chrono::milliseconds head_time{10'000};      // from a head's first byte to its last
    std::chrono::milliseconds body_time{30'000};      // for a request's body
    std::chrono::milliseconds idle_time{60'000};      // between two requests
    std::chrono::milliseconds send_time{60'000};      // without enough progress of a response
    std::chrono::milliseconds drain_time{10'000};     // for running responses at the stop
    std::uint64_t send_bytes_per_second_min = 1'024;  // a slower client is disconnected
    std::uint64_t body_bytes_max = 1 << 20;           // of a request; more is answered by 413
    unsigned open_file_count_max = 2'000;             // in the cache of each loop
    std::size_t compressed_bytes_max = 64 << 20;      // of --compress, of all loops together
    std::size_t content_bytes_max = 0;                // of small files, in the cache of each loop

    bool check_config = false;
};

/// Reads the arguments, and the file that --config names.
///
/// Result     The exit status if the program must end now, as after --help.
/// Errors     Throws option_error.
std::optional<int> parse_settings(int argc, char** argv, settings& target);

/// The same while the program runs.
///
/// Errors     Throws option_error.
settings reload_settings(int argc, char** argv);

}  // namespace httpd
