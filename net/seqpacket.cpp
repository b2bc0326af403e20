// seqpacket.cpp: see seqpacket.hpp.
#include <kevring/net/seqpacket.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/operations/connect.hpp>
#include <kevring/runtime/operations/datagram.hpp>

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace kevring {
namespace {

result<fd> open_seqpacket(const endpoint& address) noexcept {
    if (address.family() != AF_UNIX) return error_from(std::errc::invalid_argument);
    fd opened(detail::above_standard(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)));
    if (!opened) return error_from_errno();
    return opened;
}

}  // namespace

task<result<std::size_t>> seqpacket_socket::send(std::span<const std::byte> bytes) {
    if (!fd_) co_return error_from(std::errc::bad_file_descriptor);
    if (bytes.empty()) co_return error_from(std::errc::invalid_argument);
    iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    send_datagram_operation request(*ring_, fd_, message);
    co_return co_await request;
}

task<result<std::size_t>> seqpacket_socket::send_parts(std::vector<iovec> parts) {
    if (!fd_) co_return error_from(std::errc::bad_file_descriptor);
    if (parts.empty()) co_return error_from(std::errc::invalid_argument);
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    send_datagram_operation request(*ring_, fd_, message);
    co_return co_await request;
}

task<result<std::size_t>> seqpacket_socket::send(std::string_view text) {
    return send(std::as_bytes(std::span(text)));
}

task<result<received_packet>> seqpacket_socket::receive(std::span<std::byte> buffer) {
    if (!fd_) co_return error_from(std::errc::bad_file_descriptor);
    if (buffer.empty()) co_return error_from(std::errc::invalid_argument);
    iovec part{buffer.data(), buffer.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    receive_message_operation request(*ring_, fd_, message);
    const auto count = co_await request;
    if (!count) co_return tl::unexpected<std::error_code>(count.error());
    received_packet received;
    received.byte_count = *count;
    received.truncated = (message.msg_flags & MSG_TRUNC) != 0;
    co_return received;
}

result<void> seqpacket_socket::shutdown_send() noexcept {
    if (ring_->created_by_parent_process()) return error_from(std::errc::operation_not_permitted);
    const int answer = ring_->system().shutdown(fd_.number(), SHUT_WR);
    if (answer < 0) return error_from(answer);
    return {};
}

result<seqpacket_listener> seqpacket_listener::bind(const endpoint& local, int backlog) {
    KEVRING_ASSERT(ring::current() != nullptr,
                   "seqpacket listener made by a thread that drives no ring; make it in a task "
                   "that run() or spawn() started");
    auto opened = open_seqpacket(local);
    if (!opened) return tl::unexpected<std::error_code>(opened.error());
    if (::bind(opened->number(), local.address(), local.address_bytes()) != 0)
        return error_from_errno();
    seqpacket_listener bound(*ring::current(), std::move(*opened));
    struct stat status{};
    std::string name(local.path());
    if (!name.empty() && ::lstat(name.c_str(), &status) == 0)
        bound.path_ = {std::move(name), status.st_dev, status.st_ino, ::getpid()};
    if (::listen(bound.native().number(), backlog) != 0) return error_from_errno();
    return bound;
}

seqpacket_listener::~seqpacket_listener() {
    if (path_.name.empty() || path_.process != ::getpid()) return;
    // The open socket keeps its inode from being used again, so equal numbers mean the same file.
    struct stat status{};
    if (::lstat(path_.name.c_str(), &status) == 0 && status.st_dev == path_.device &&
        status.st_ino == path_.inode)
        ::unlink(path_.name.c_str());
}

result<seqpacket_socket> seqpacket_listener::accept_operation::await_resume() {
    auto accepted = next_.await_resume();
    if (!accepted) return tl::unexpected<std::error_code>(accepted.error());
    ring& loop = accepted->loop();
    return seqpacket_socket(loop, accepted->release());
}

task<result<seqpacket_socket>> connect_seqpacket(ring& loop, endpoint peer) {
    auto opened = open_seqpacket(peer);
    if (!opened) co_return tl::unexpected<std::error_code>(opened.error());
    connect_operation request(loop, *opened, peer.address(), peer.address_bytes());
    const auto connected = co_await request;
    if (!connected) co_return tl::unexpected<std::error_code>(connected.error());
    co_return seqpacket_socket(loop, std::move(*opened));
}

}  // namespace kevring
