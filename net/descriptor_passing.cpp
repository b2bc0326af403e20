// descriptor_passing.cpp: see descriptor_passing.hpp.
#include <kevring/net/descriptor_passing.hpp>

#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/operations/datagram.hpp>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include <sys/socket.h>

namespace kevring {
namespace {

constexpr std::size_t control_bytes(std::size_t descriptor_count) noexcept {
    return CMSG_SPACE(descriptor_count * sizeof(int));
}

// Aligned as the kernel's entries.
using control_memory = std::vector<std::uint64_t>;
static_assert(alignof(std::uint64_t) >= alignof(cmsghdr));
constexpr std::size_t words_of(std::size_t byte_count) noexcept {
    return (byte_count + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t);
}

struct control_content {
    std::vector<fd> descriptors;
    std::optional<peer_credentials> credentials;
    bool complete = true;
};

// Owns every descriptor that the message has. `descriptors` is empty and has the capacity for them:
// nothing here allocates, and so no exception leaks one.
control_content read_control(msghdr& message, std::vector<fd> descriptors,
                             std::size_t descriptor_count_max) noexcept {
    control_content content;
    content.descriptors = std::move(descriptors);
    for (cmsghdr* entry = CMSG_FIRSTHDR(&message); entry != nullptr;
         entry = CMSG_NXTHDR(&message, entry)) {
        if (entry->cmsg_level != SOL_SOCKET) continue;
        if (entry->cmsg_type == SCM_CREDENTIALS) {
            ucred sender{};
            std::memcpy(&sender, CMSG_DATA(entry), sizeof sender);
            content.credentials = peer_credentials{sender.pid, sender.uid, sender.gid};
        } else if (entry->cmsg_type == SCM_RIGHTS) {
            const std::size_t count = (entry->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (std::size_t index = 0; index < count; ++index) {
                int number = -1;
                std::memcpy(&number, CMSG_DATA(entry) + index * sizeof number, sizeof number);
                content.descriptors.emplace_back(detail::above_standard(number));
                if (!content.descriptors.back()) content.complete = false;
            }
        }
    }
    if (content.descriptors.size() > descriptor_count_max) content.complete = false;
    return content;
}

}  // namespace

task<result<std::size_t>> send_descriptors(ring& loop, fd_ref socket,
                                           std::span<const std::byte> bytes,
                                           std::span<const fd_ref> descriptors) {
    if (descriptors.size() > passed_descriptor_count_max)
        co_return error_from(std::errc::invalid_argument);
    int type = 0;
    socklen_t type_bytes = sizeof type;
    if (::getsockopt(socket.number(), SOL_SOCKET, SO_TYPE, &type, &type_bytes) != 0)
        co_return error_from_errno();
    if (type == SOCK_STREAM && bytes.empty()) co_return error_from(std::errc::invalid_argument);
    iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    control_memory control;
    if (!descriptors.empty()) {
        control.resize(words_of(control_bytes(descriptors.size())));
        message.msg_control = control.data();
        message.msg_controllen = control_bytes(descriptors.size());
        cmsghdr& entry = *CMSG_FIRSTHDR(&message);
        entry.cmsg_level = SOL_SOCKET;
        entry.cmsg_type = SCM_RIGHTS;
        entry.cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
        for (std::size_t index = 0; index < descriptors.size(); ++index) {
            const int number = descriptors[index].number();
            std::memcpy(CMSG_DATA(&entry) + index * sizeof number, &number, sizeof number);
        }
    }
    send_datagram_operation request(loop, socket, message);
    co_return co_await request;
}

task<result<received_descriptors>> receive_descriptors(ring& loop, fd_ref socket,
                                                       std::span<std::byte> buffer,
                                                       std::size_t descriptor_count_max) {
    if (descriptor_count_max > passed_descriptor_count_max)
        co_return error_from(std::errc::invalid_argument);
    iovec part{buffer.data(), buffer.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    // Room for all that a message can have: the kernel closes what does not fit, but the program could
    // not tell a full buffer from a cut one if it had room for its own number only.
    const std::size_t control_size =
        control_bytes(passed_descriptor_count_max) + CMSG_SPACE(sizeof(ucred));
    control_memory control(words_of(control_size));
    message.msg_control = control.data();
    message.msg_controllen = control_size;
    std::vector<fd> descriptors;
    descriptors.reserve(passed_descriptor_count_max);  // first: the message is consumed below
    receive_message_operation request(loop, socket, message, MSG_CMSG_CLOEXEC);
    const auto count = co_await request;
    if (!count) co_return tl::unexpected<std::error_code>(count.error());
    control_content content = read_control(message, std::move(descriptors), descriptor_count_max);
    // The kernel could not open all of them: the limit of this process.
    if ((message.msg_flags & MSG_CTRUNC) != 0) co_return error_from(std::errc::too_many_files_open);
    if (!content.complete)
        co_return error_from(content.descriptors.size() > descriptor_count_max
                                 ? std::errc::message_size
                                 : std::errc::too_many_files_open);
    received_descriptors received;
    received.byte_count = *count;
    received.truncated = (message.msg_flags & MSG_TRUNC) != 0;
    received.descriptors = std::move(content.descriptors);
    received.credentials = content.credentials;
    co_return received;
}

result<void> pass_credentials(fd_ref socket) noexcept {
    const int enabled = 1;
    if (::setsockopt(socket.number(), SOL_SOCKET, SO_PASSCRED, &enabled, sizeof enabled) != 0)
        return error_from_errno();
    return {};
}

}  // namespace kevring
