#include "bench/load/probe.hpp"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace kevring::bench {

namespace {

constexpr std::size_t head_bytes_max = 64 * 1024;

[[noreturn]] void throw_errno(const std::string& what) {
    throw std::system_error(errno, std::generic_category(), what);
}

sockaddr_in ipv4(const std::string& host, std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1)
        throw std::runtime_error("not an IPv4 address: " + host);
    return address;
}

class blocking_connection {
public:
    blocking_connection(const load_options& options, std::uint64_t turn)
        : fd_(make_socket(options, turn)) {
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(options.timeout);
        timeval timeout{};
        timeout.tv_sec = std::max<long>(1, seconds.count());
        setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
        setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
        const sockaddr_in to = server_address(options);
        if (connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
            const int failure = errno;
            ::close(fd_);
            errno = failure;
            throw_errno("connect to " + options.host + ":" + std::to_string(options.port));
        }
    }
    blocking_connection(const blocking_connection&) = delete;
    blocking_connection& operator=(const blocking_connection&) = delete;
    ~blocking_connection() {
        if (fd_ >= 0) ::close(fd_);
    }

    int release() { return std::exchange(fd_, -1); }

    void send_all(std::string_view bytes) {
        while (!bytes.empty()) {
            const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent <= 0) throw_errno("send");
            bytes.remove_prefix(static_cast<std::size_t>(sent));
        }
    }

    // At most `count` bytes into `to`; 0 at the end.
    std::size_t receive(char* to, std::size_t count, int flags = 0) {
        const ssize_t got = ::recv(fd_, to, count, flags);
        if (got < 0) throw_errno("receive");
        return static_cast<std::size_t>(got);
    }

    // Reads to the end of the response's head; what came after it has been taken as well.
    std::string read_head(std::size_t& taken) {
        std::string text;
        taken = 0;
        for (;;) {
            char piece[4096];
            const std::size_t got = receive(piece, sizeof piece);
            if (got == 0) throw std::runtime_error("closed within the head of a response");
            text.append(piece, got);
            taken += got;
            const auto end = text.find("\r\n\r\n");
            if (end != text.npos) {
                text.resize(end + 4);
                return text;
            }
            if (text.size() > head_bytes_max) throw std::runtime_error("an endless head");
        }
    }

    void discard(std::uint64_t count) {
        std::vector<char> unused(64 * 1024);
        while (count > 0) {
            const std::size_t got =
                receive(unused.data(),
                        static_cast<std::size_t>(std::min<std::uint64_t>(count, 65536)), MSG_TRUNC);
            if (got == 0) throw std::runtime_error("closed within the body of a response");
            count -= got;
        }
    }

private:
    int fd_;
};

std::optional<std::uint64_t> content_length(std::string_view head) {
    std::string lower(head);
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    constexpr std::string_view name = "\r\ncontent-length:";
    auto begin = lower.find(name);
    if (begin == lower.npos) return std::nullopt;
    begin = lower.find_first_not_of(' ', begin + name.size());
    std::uint64_t value = 0;
    const auto [end, error] =
        std::from_chars(lower.data() + begin, lower.data() + lower.size(), value);
    if (error != std::errc{}) return std::nullopt;
    return value;
}

std::string request_for(const load_options& options, std::string_view method,
                        const std::string& path) {
    const bool keep = options.mode == load_mode::keep_alive;
    std::string text =
        std::string(method) + " " + path + (options.http10 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
    text += "Host: " + options.host + ":" + std::to_string(options.port) + "\r\n";
    if (options.http10 == keep)
        text += keep ? "Connection: keep-alive\r\n" : "Connection: close\r\n";
    for (const std::string& header : options.headers) text += header + "\r\n";
    return text + "\r\n";
}

// The length of the whole response to a GET, which has been read to its end. A HEAD tells the same,
// but for the body's bytes.
std::uint64_t ask(blocking_connection& loop, const std::string& request) {
    loop.send_all(request);
    std::size_t taken = 0;
    const std::string head = loop.read_head(taken);
    const std::string first_line = head.substr(0, head.find('\r'));
    const auto space = first_line.find(' ');
    if (space == first_line.npos || first_line.compare(space + 1, 3, "200") != 0)
        throw std::runtime_error("answered with " + first_line);
    const auto length = content_length(head);
    if (!length) throw std::runtime_error("a response without Content-Length");
    const std::uint64_t total = head.size() + *length;
    const std::uint64_t to_come = request.starts_with("HEAD ") ? head.size() : total;
    if (taken > to_come) throw std::runtime_error("more bytes than Content-Length says");
    loop.discard(to_come - taken);
    return total;
}

}  // namespace

sockaddr_in server_address(const load_options& options) { return ipv4(options.host, options.port); }

int make_socket(const load_options& options, std::uint64_t turn) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) throw_errno("socket");
    const int enabled = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &enabled, sizeof enabled);
    if (!options.congestion.empty() &&
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, options.congestion.data(),
                   static_cast<socklen_t>(options.congestion.size())) != 0) {
        const int failure = errno;
        ::close(fd);
        errno = failure;
        throw_errno("congestion control " + options.congestion);
    }
    if (options.sources.empty()) return fd;
    const sockaddr_in source = ipv4(options.sources[turn % options.sources.size()], 0);
    // The port is chosen at connect, when the kernel knows the other side too: a port may then
    // serve several destinations, and bind() need not look for one that is free for all.
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &enabled, sizeof enabled);
    if (bind(fd, reinterpret_cast<const sockaddr*>(&source), sizeof source) != 0) {
        const int failure = errno;
        ::close(fd);
        errno = failure;
        throw_errno("bind to " + options.sources[turn % options.sources.size()]);
    }
    return fd;
}

std::vector<load_target> learn_targets(const load_options& options) {
    std::vector<load_target> targets;
    if (options.mode == load_mode::echo || options.mode == load_mode::sink ||
        options.mode == load_mode::source) {
        targets.push_back({std::string(options.message_bytes, 'e'), options.message_bytes});
        return targets;
    }
    const bool keep = options.mode == load_mode::keep_alive;
    std::optional<blocking_connection> connection;
    for (const std::string& path : options.paths) {
        load_target target{request_for(options, "GET", path), 0};
        try {
            if (!connection || !keep) connection.emplace(options, 0);
            const std::string request =
                options.learn_by_head ? request_for(options, "HEAD", path) : target.request;
            try {
                target.response_bytes = ask(*connection, request);
            } catch (const std::system_error&) {
                if (targets.empty()) throw;
                connection.emplace(options, 0);  // closed by a server that counts requests
                target.response_bytes = ask(*connection, request);
            }
        } catch (const std::exception& failure) {
            throw std::runtime_error(path + ": " + failure.what());
        }
        targets.push_back(std::move(target));
    }
    return targets;
}

idle_connections::idle_connections(const load_options& options, const load_target& first) {
    fds_.reserve(options.idle);
    for (unsigned i = 0; i < options.idle; ++i) {
        blocking_connection connection(options, i);
        connection.send_all(first.request);
        connection.discard(first.response_bytes);
        fds_.push_back(connection.release());
    }
}

idle_connections::~idle_connections() {
    for (const int fd : fds_) ::close(fd);
}

std::size_t idle_connections::held() const {
    return static_cast<std::size_t>(std::count_if(fds_.begin(), fds_.end(), [](int fd) {
        char unused = 0;
        return recv(fd, &unused, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
    }));
}

}  // namespace kevring::bench
