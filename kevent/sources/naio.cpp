// naio.cpp: see naio.hpp.
#include <kevring/kevent/sources/naio.hpp>

#include <kevring/kevent/sources/fd_source.hpp>

#include <algorithm>
#include <cerrno>
#include <new>
#include <unordered_map>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

namespace kevring::detail {
namespace {

// Limit of the bytes that one transfer moves under the queue's lock, about 20 us.
constexpr std::size_t step_bytes_max = 256 * 1024;

constexpr int receive_flags = MSG_WAITALL | MSG_DONTWAIT | MSG_NOSIGNAL;
constexpr int send_flags = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE;

// The requests of one queue, in a line for each direction of each socket: the first one moves
// bytes, so that those of two requests do not mix.
struct naio_lines {
    std::unordered_map<std::uint64_t, list_link> of_socket;

    static std::shared_ptr<naio_lines> of_queue(source_host& host) {
        std::weak_ptr<void>& place = host.shared_state(event_type::naio);
        if (auto there = std::static_pointer_cast<naio_lines>(place.lock())) return there;
        auto made = std::make_shared<naio_lines>();
        place = made;
        return made;
    }
};

// Bytes are moved as the socket becomes ready, by the calls that poll the queue: there is no thread
// of its own, and once a record is collected or removed the buffer is not touched.
//
// ret_data[0]   the bytes that were moved
// ret_data[1]   the same; of a request that failed, the negative error number
class naio_source final : public fd_source, private list_link {
public:
    naio_source(source_host& host, registration& target, std::shared_ptr<naio_lines> lines,
                std::uint64_t line, naio_buffer buffer, int flags) noexcept
        : fd_source(host, target),
          queues_(std::move(lines)),
          queue_(line),
          receives_((target.record.event & KEVENT_SOCKET_RECV) != 0),
          buffer_(buffer),
          flags_((flags & ~MSG_WAITALL) | MSG_DONTWAIT | MSG_NOSIGNAL) {}
    ~naio_source() override { leave(); }

    using fd_source::set_watched;

    int arm() override {
        if (outcome_ == readiness::broken) return error_number_;
        if (outcome_ == readiness::ready) return 0;
        if (event() == KEVENT_MASK_EMPTY) {
            disarm();
            return 0;
        }
        const bool joins = !linked();
        if (joins) insert_before(queues_->of_socket[queue_]);
        const int failure = fd_source::arm();
        if (failure != 0 && joins) leave();
        return failure;
    }
    void disarm() noexcept override {
        fd_source::disarm();
        leave();
    }

    std::uint32_t forced_flags() const noexcept override { return KEVENT_REQ_ONESHOT; }
    readiness test_on_add() override { return readiness::not_ready; }
    readiness on_added() override { return advance(); }
    bool before_collect() noexcept override {
        // READY may ask for a record before all is moved.
        set_results(moved_count(), moved_count());
        return true;
    }

private:
    std::uint32_t wanted_bits() const noexcept override { return receives_ ? POLLIN : POLLOUT; }
    readiness evaluate(std::uint32_t) noexcept override { return advance(); }

    std::uint32_t moved_count() const noexcept { return static_cast<std::uint32_t>(moved_); }
    bool is_front() const noexcept {
        return linked() && previous == &queues_->of_socket.find(queue_)->second;
    }

    ssize_t move(std::size_t count) noexcept {
        char* const begin = buffer_.begin + moved_;
        const ssize_t moved = receives_ ? ::recv(held().number(), begin, count, flags_)
                                        : ::send(held().number(), begin, count, flags_);
        return moved < 0 ? -errno : moved;
    }

    readiness advance() noexcept {
        if (outcome_ != readiness::not_ready || !is_front()) return outcome_;
        std::size_t budget = step_bytes_max;
        while (moved_ < buffer_.size) {
            if (budget == 0) {
                const int failure = arm_nothrow();  // reports a socket that is ready still
                return failure == 0 ? outcome_ : fail(failure);
            }
            const ssize_t count = move(std::min(buffer_.size - moved_, budget));
            if (count == -EAGAIN) return outcome_;
            if (count == -EINTR) continue;
            if (count <= 0) return fail(count == 0 ? -EPIPE : static_cast<int>(count));
            moved_ += static_cast<std::size_t>(count);
            budget -= static_cast<std::size_t>(count);
        }
        return outcome_ = readiness::ready;
    }

    readiness fail(int error_number) noexcept {
        error_number_ = error_number;
        set_results(moved_count(), static_cast<std::uint32_t>(error_number));
        return outcome_ = readiness::broken;
    }

    void leave() noexcept {
        if (!linked()) return;
        const auto line = queues_->of_socket.find(queue_);
        const bool was_first = is_front();
        unlink();
        if (!line->second.linked()) {
            queues_->of_socket.erase(line);
        } else if (was_first) {
            static_cast<naio_source*>(line->second.next)->transfer_some();
        }
    }

    // Readiness that was reported while others preceded it was dropped: this requests it again.
    void transfer_some() noexcept {
        if (const int failure = arm_nothrow(); failure != 0)
            host_.report(registration_, fail(failure));
    }
    int arm_nothrow() noexcept {
        try {
            return fd_source::arm();
        } catch (const std::bad_alloc&) {
            return -ENOMEM;
        }
    }

    const std::shared_ptr<naio_lines> queues_;
    const std::uint64_t queue_;
    const bool receives_;
    const naio_buffer buffer_;
    const int flags_;
    std::size_t moved_ = 0;
    readiness outcome_ = readiness::not_ready;
    int error_number_ = 0;
};

}  // namespace

result<std::unique_ptr<source>> make_naio_source(source_host& host, registration& target,
                                                 fd_ref socket, naio_buffer buffer, int flags) {
    const bool receives = (target.record.event & KEVENT_SOCKET_RECV) != 0;
    if ((flags & ~(receives ? receive_flags : send_flags)) != 0) return error_from(-EINVAL);
    int type = 0;
    socklen_t type_size = sizeof type;
    if (::getsockopt(socket.number(), SOL_SOCKET, SO_TYPE, &type, &type_size) != 0)
        return error_from_errno();
    if (type != SOCK_STREAM) return error_from(-ESOCKTNOSUPPORT);
    hidden_fd own = hidden_fd::duplicate(socket);
    if (!own) return error_from_errno();
    struct stat status{};
    if (::fstat(own.number(), &status) != 0) return error_from_errno();
    const std::uint64_t line = identify_file(own, status).number * 2 + (receives ? 1 : 0);
    auto made = std::make_unique<naio_source>(host, target, naio_lines::of_queue(host), line,
                                              buffer, flags);
    made->set_watched(std::move(own));
    return made;
}

}  // namespace kevring::detail
