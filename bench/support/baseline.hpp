// bench/support/baseline.hpp: the command line and the listening sockets of the baseline servers.
//
// All of them take the same options:
//   --listen HOST:PORT     an IPv4 address of this machine; port 0 takes a free one; default
//                          127.0.0.1:8080
//   --threads N            N loops (1 to 64), each with its own listening socket; the kernel distributes
//                          the connections (SO_REUSEPORT); default 1
//   --congestion NAME      TCP congestion control of accepted connections; default: the system's
//   --seconds N            end by itself after N seconds (1 to 86400); default 3600
//   --root DIR             for the file servers; default: the current folder
//   --work NAME            for the stream servers: echo (the default), sink (receives only), source
//                          (sends only), proxy (passes each connection on to --backend)
//   --message-bytes N      the size of a source's sends; default 65536
//   --buffer-bytes N       the size of a receive buffer; default 65536
//   --backend HOST:PORT    an IPv4 address, for the proxy
//   --mechanism NAME       multishot (the default), bundle or incremental, for stream_mechanisms
// The first line of output is the address. SIGTERM and SIGINT end the program with 0; a wrong
// option ends it with 2, a socket that is unavailable with 1.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace kevring::bench {

// Size of the connection tables of the servers: no descriptor is larger.
inline constexpr unsigned baseline_fd_count_max = 65536;

enum class stream_work { echo, sink, source, proxy };
enum class stream_mechanism { multishot, bundle, incremental };

struct baseline_options {
    std::string host = "127.0.0.1";
    unsigned short port = 8080;
    unsigned threads = 1;
    std::string congestion;
    std::string root = ".";
    stream_work work = stream_work::echo;
    unsigned message_bytes = 65536;
    unsigned buffer_bytes = 65536;
    std::string backend_host = "127.0.0.1";
    unsigned short backend_port = 0;
    stream_mechanism mechanism = stream_mechanism::multishot;
};

[[noreturn]] inline void baseline_usage(std::string_view about) {
    std::fprintf(stderr,
                 "%.*s\noptions: --listen HOST:PORT --threads N --congestion NAME --seconds N "
                 "--root DIR --work NAME --message-bytes N --buffer-bytes N --backend HOST:PORT "
                 "--mechanism NAME\n",
                 static_cast<int>(about.size()), about.data());
    std::exit(2);
}

template <class Number>
Number baseline_number(std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) baseline_usage("not a number");
    return value;
}

inline stream_work baseline_work(std::string_view name) {
    if (name == "echo") return stream_work::echo;
    if (name == "sink") return stream_work::sink;
    if (name == "source") return stream_work::source;
    if (name == "proxy") return stream_work::proxy;
    baseline_usage("--work wants echo, sink, source or proxy");
}

inline stream_mechanism baseline_mechanism(std::string_view name) {
    if (name == "multishot") return stream_mechanism::multishot;
    if (name == "bundle") return stream_mechanism::bundle;
    if (name == "incremental") return stream_mechanism::incremental;
    baseline_usage("--mechanism wants multishot, bundle or incremental");
}

inline unsigned baseline_size(std::string_view text) {
    const auto bytes = baseline_number<unsigned>(text);
    if (bytes < 1 || bytes > 1U << 24) baseline_usage("a size is 1 to 16777216");
    return bytes;
}

inline baseline_options parse_baseline_options(int argc, char** argv) {
    baseline_options options;
    unsigned seconds = 3600;
    for (int i = 1; i < argc; i += 2) {
        const std::string_view name = argv[i];
        if (i + 1 == argc) baseline_usage("an option and its value, please");
        const std::string_view value = argv[i + 1];
        if (name == "--listen") {
            const auto colon = value.rfind(':');
            if (colon == std::string_view::npos) baseline_usage("--listen wants HOST:PORT");
            options.host = value.substr(0, colon);
            options.port = baseline_number<unsigned short>(value.substr(colon + 1));
        } else if (name == "--congestion") {
            options.congestion = value;
        } else if (name == "--seconds") {
            seconds = baseline_number<unsigned>(value);
            if (seconds < 1 || seconds > 86400) baseline_usage("--seconds wants 1 to 86400");
        } else if (name == "--root") {
            options.root = value;
        } else if (name == "--work") {
            options.work = baseline_work(value);
        } else if (name == "--message-bytes") {
            options.message_bytes = baseline_size(value);
        } else if (name == "--buffer-bytes") {
            options.buffer_bytes = baseline_size(value);
        } else if (name == "--backend") {
            const auto colon = value.rfind(':');
            if (colon == std::string_view::npos) baseline_usage("--backend wants HOST:PORT");
            options.backend_host = value.substr(0, colon);
            options.backend_port = baseline_number<unsigned short>(value.substr(colon + 1));
        } else if (name == "--mechanism") {
            options.mechanism = baseline_mechanism(value);
        } else if (name == "--threads") {
            options.threads = baseline_number<unsigned>(value);
            if (options.threads < 1 || options.threads > 64)
                baseline_usage("--threads wants 1 to 64");
        } else {
            baseline_usage("unknown option");
        }
    }
    alarm(seconds);  // a benchmark that was cut off leaves no server behind for good
    return options;
}

[[noreturn]] inline void baseline_failed(const char* what) {
    std::perror(what);
    std::exit(1);
}

// One listening socket; `port` 0 is replaced by the port that the kernel chose. Options that an
// accepted connection inherits are set here, once.
inline int baseline_listen(const baseline_options& options, unsigned short& port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    if (inet_pton(AF_INET, options.host.c_str(), &address.sin_addr) != 1)
        baseline_usage("--listen wants an IPv4 address");
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) baseline_failed("socket");
    const int enabled = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &enabled, sizeof enabled);
    if (options.threads > 1) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &enabled, sizeof enabled);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &enabled, sizeof enabled);
    if (!options.congestion.empty() &&
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, options.congestion.data(),
                   static_cast<socklen_t>(options.congestion.size())) != 0)
        baseline_failed("TCP_CONGESTION");
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        baseline_failed("bind");
    if (::listen(fd, 4096) != 0) baseline_failed("listen");
    socklen_t length = sizeof address;
    getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
    port = ntohs(address.sin_port);
    return fd;
}

// A connection to the backend of a proxy; -1 if there is none. Waits for it, which takes no time on
// the same machine, and happens once for each connection.
inline int baseline_connect(const baseline_options& options, int flags = 0) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(options.backend_port);
    if (inet_pton(AF_INET, options.backend_host.c_str(), &address.sin_addr) != 1)
        baseline_usage("--backend wants an IPv4 address");
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    const int enabled = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &enabled, sizeof enabled);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        ::close(fd);
        return -1;
    }
    if (flags != 0) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | flags);
    return fd;
}

// Listens, prints the address, and calls serve(listening socket) once in each thread. `serve` never
// returns: a signal ends the program.
template <class Serve>
void baseline_serve(const baseline_options& options, Serve serve) {
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = std::min<rlim_t>(files.rlim_max, baseline_fd_count_max);
    setrlimit(RLIMIT_NOFILE, &files);
    for (const int number : {SIGTERM, SIGINT}) std::signal(number, [](int) { _exit(0); });

    unsigned short port = options.port;
    std::vector<int> listeners;
    for (unsigned i = 0; i < options.threads; ++i)
        listeners.push_back(baseline_listen(options, port));
    std::printf("listening on %s:%u\n", options.host.c_str(), port);
    std::fflush(stdout);

    std::vector<std::thread> others;
    for (unsigned i = 1; i < options.threads; ++i) others.emplace_back(serve, listeners[i]);
    serve(listeners[0]);
}

}  // namespace kevring::bench
