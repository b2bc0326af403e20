#include <kevring/net/listener.hpp>

#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/sleep.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace kevring {
namespace {

result<void> set_flag(fd_ref socket, int level, int name) noexcept {
    const int enabled = 1;
    if (::setsockopt(socket.number(), level, name, &enabled, sizeof enabled) != 0)
        return error_from_errno();
    return {};
}

// A path whose server has ended without removing it refuses connections; one in use takes them.
bool is_abandoned(const endpoint& local) noexcept {
    struct stat status{};
    if (::stat(std::string(local.path()).c_str(), &status) != 0 || !S_ISSOCK(status.st_mode))
        return false;
    const fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    return probe && ::connect(probe.number(), local.address(), local.address_bytes()) != 0 &&
           errno == ECONNREFUSED;
}

bool is_exhaustion(const std::error_code& error) noexcept {
    return error == std::errc::too_many_files_open ||
           error == std::errc::too_many_files_open_in_system ||
           error == std::errc::no_buffer_space || error == std::errc::not_enough_memory;
}

// Errors that accept(2) reports for the connection, not for the listener (its NOTES).
bool is_connection_error(const std::error_code& error) noexcept {
    return error == std::errc::connection_aborted || error == std::errc::network_down ||
           error == std::errc::protocol_error || error == std::errc::no_protocol_option ||
           error == std::errc::host_unreachable || error == std::errc::network_unreachable ||
           error == std::errc::interrupted;
}

result<fd> open_once(const endpoint& local, const listener_options& options) {
    fd made(detail::above_standard(::socket(local.family(), SOCK_STREAM | SOCK_CLOEXEC, 0)));
    if (!made) return error_from_errno();
    const bool is_unix = local.family() == AF_UNIX;
    if (!is_unix) {
        if (const auto set = set_flag(made, SOL_SOCKET, SO_REUSEADDR); !set)
            return tl::unexpected(set.error());
        if (options.reuse_port)
            if (const auto set = set_flag(made, SOL_SOCKET, SO_REUSEPORT); !set)
                return tl::unexpected(set.error());
        if (options.ipv6_only && local.family() == AF_INET6)
            if (const auto set = set_flag(made, IPPROTO_IPV6, IPV6_V6ONLY); !set)
                return tl::unexpected(set.error());
    }
    if (const auto set = set_options(made, options.accepted); !set)
        return tl::unexpected(set.error());

    const auto bind_once = [&] {
        return ::bind(made.number(), local.address(), local.address_bytes()) == 0 ? 0 : errno;
    };
    int error = bind_once();
    const std::string path(local.path());
    if (error == EADDRINUSE && !path.empty() && is_abandoned(local)) {
        ::unlink(path.c_str());
        error = bind_once();
    }
    if (error != 0) return error_from(-error);
    if (::listen(made.number(), options.backlog) != 0) return error_from_errno();
    return made;
}

constexpr std::chrono::milliseconds address_retry_interval{1};

}  // namespace

result<fd> open_listening_socket(const endpoint& local, const listener_options& options) {
    auto made = open_once(local, options);
    if (made || options.address_wait.count() <= 0 || ring::current() != nullptr) return made;
    kernel& system = kernel::real();
    const std::int64_t deadline_ns =
        add_ns(system.steady_ns(), std::min(options.address_wait, address_wait_max));
    while (!made && made.error() == std::errc::address_in_use && system.steady_ns() < deadline_ns) {
        // No event reports that the kernel has released an address.
        std::this_thread::sleep_for(address_retry_interval);
        made = open_once(local, options);
    }
    return made;
}

result<listener> listener::bind(ring& loop, const endpoint& local,
                                const listener_options& options) {
    auto made = open_listening_socket(local, options);
    if (!made) return tl::unexpected(made.error());
    listener bound(loop, std::move(*made));
    struct stat status{};
    std::string path(local.path());
    if (!path.empty() && ::lstat(path.c_str(), &status) == 0)
        bound.bound_path_ = {std::move(path), status.st_dev, status.st_ino, ::getpid()};
    return bound;
}

task<result<listener>> listener::bind_when_free(ring& loop, endpoint local,
                                                listener_options options) {
    options.address_wait = std::chrono::milliseconds(0);
    const std::int64_t deadline_ns = add_ns(loop.now_ns(), address_wait_max);
    while (true) {
        auto bound = bind(loop, local, options);
        if (bound || bound.error() != std::errc::address_in_use || loop.now_ns() >= deadline_ns)
            co_return bound;
        // No event reports that the kernel has released an address.
        const auto slept = co_await sleep_for(address_retry_interval);
        if (!slept) co_return tl::unexpected(slept.error());
    }
}

listener::listener(ring& loop, fd listening) : loop_(&loop), fd_(std::move(listening)) {
    KEVRING_ASSERT(fd_.valid(),
                   "listener made of an invalid descriptor; pass a socket that listens");
}

listener::~listener() {
    if (!fd_ || bound_path_.name.empty() || bound_path_.process != ::getpid()) return;
    // The open socket keeps its inode from being used again, so equal numbers mean the same file.
    struct stat status{};
    if (::lstat(bound_path_.name.c_str(), &status) == 0 && status.st_dev == bound_path_.device &&
        status.st_ino == bound_path_.inode)
        ::unlink(bound_path_.name.c_str());
}

task<result<void>> listener::fetch() {
    constexpr auto retry_delay_max = std::chrono::milliseconds(1000);
    auto wait = std::chrono::milliseconds(10);
    if (!connections_) connections_.emplace(*loop_, fd_);
    while (true) {
        auto accepted = co_await connections_->next();
        if (accepted) {
            accepted_.emplace(*loop_, std::move(*accepted));
            ++accepted_count_;
            co_return result<void>();
        }
        if (is_connection_error(accepted.error())) continue;
        if (!is_exhaustion(accepted.error())) co_return tl::unexpected(accepted.error());
        ++exhausted_count_;
        // No event reports that a descriptor has become free; an immediate retry would spin.
        const auto slept = co_await sleep_for(wait);
        if (!slept) co_return tl::unexpected(slept.error());
        wait = std::min(wait * 2, retry_delay_max);
    }
}

void listener::stop_accepting() noexcept {
    if (!connections_) connections_.emplace(*loop_, fd_);
    connections_->stop_accepting();
}

result<endpoint> listener::local() const noexcept {
    endpoint bound;
    socklen_t bytes = endpoint::capacity();
    if (::getsockname(fd_.number(), bound.address(), &bytes) != 0) return error_from_errno();
    bound.set_address_bytes(bytes);
    return bound;
}

}  // namespace kevring
