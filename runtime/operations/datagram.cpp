#include <kevring/runtime/operations/datagram.hpp>

#include <kevring/runtime/detail/buffer_pool_state.hpp>
#include <kevring/runtime/detail/uring.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace kevring {

void receive_message_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_recvmsg(&sqe, socket_.number(), message_, static_cast<unsigned>(flags_));
}

void send_datagram_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_sendmsg(&sqe, socket_.number(), message_,
                          static_cast<unsigned>(flags_ | MSG_NOSIGNAL));
}

// Messages that have arrived are a queue of the pool's buffers, linked through their slots.
class message_stream::state final : public detail::multishot_state, private detail::buffer_waiter {
public:
    state(ring& loop, fd_ref socket, detail::buffer_pool_state& pool,
          std::size_t control_bytes) noexcept
        : multishot_state(loop), buffer_waiter(on_buffer_available), pool_(pool), socket_(socket) {
        // The kernel reads the two lengths only, and lays out each buffer by them.
        layout_.msg_namelen = address_bytes;
        layout_.msg_controllen = control_bytes;
        pool_.ref();
    }
    ~state() override {
        buffer_waiter::unlink();
        pool_.unref();
    }

    void prepare(io_uring_sqe& sqe) noexcept override {
        io_uring_prep_recvmsg_multishot(&sqe, socket_.number(), &layout_, 0);
        sqe.flags |= IOSQE_BUFFER_SELECT;
        sqe.buf_group = pool_.group();
    }

    pooled_message take() noexcept {
        const std::uint16_t index = first_;
        first_ = pool_.at(index).next;
        --held_count_;
        pooled_message message;
        message.memory = pool_.lend(index);
        const std::span<std::byte> all = message.memory.bytes();
        io_uring_recvmsg_out head{};
        std::memcpy(&head, all.data(), sizeof head);
        const std::size_t control_begin = sizeof head + layout_.msg_namelen;
        const std::size_t payload_begin = control_begin + layout_.msg_controllen;
        // The lengths are those of the message, of which a part may not have fitted.
        message.address =
            all.subspan(sizeof head, std::min<std::size_t>(head.namelen, layout_.msg_namelen));
        message.control = all.subspan(
            control_begin, std::min<std::size_t>(head.controllen, layout_.msg_controllen));
        message.payload = all.subspan(payload_begin);
        message.flags = static_cast<int>(head.flags);
        return message;
    }

private:
    static constexpr unsigned address_bytes = 128;  // sockaddr_storage
    static constexpr unsigned held_max = 64;

    bool has_item() const noexcept override { return held_count_ > 0; }
    bool is_full() const noexcept override { return held_count_ >= held_max; }

    void store_item(std::int32_t res, std::uint32_t flags) noexcept override {
        if ((flags & IORING_CQE_F_BUFFER) == 0) return;
        const auto index = static_cast<std::uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT);
        const std::size_t count = res > 0 ? static_cast<std::size_t>(res) : 0;
        pool_.mark_selected(index, count);
        if (count < sizeof(io_uring_recvmsg_out) + layout_.msg_namelen + layout_.msg_controllen) {
            pool_.recycle(index);
            return;
        }
        pool_.at(index).byte_count = static_cast<std::uint32_t>(count);
        if (held_count_ == 0)
            first_ = index;
        else
            pool_.at(last_).next = index;
        last_ = index;
        ++held_count_;
    }

    void drop_items() noexcept override {
        buffer_waiter::unlink();
        for (; held_count_ > 0; --held_count_) {
            const std::uint16_t index = first_;
            first_ = pool_.at(index).next;  // first: the kernel may take the buffer at once
            pool_.recycle(index);
        }
    }

    // No buffer is normal: the pool grows, or a buffer is returned later.
    bool is_transient(std::int32_t res) noexcept override {
        if (res != -ENOBUFS || pool_.closed()) return false;
        pool_.on_exhausted();
        return true;
    }
    bool may_arm() noexcept override { return pool_.ready_or_wait(*this); }
    void cancel_pending_arm() noexcept override { buffer_waiter::unlink(); }
    std::int32_t arming_error() const noexcept override { return pool_.closed() ? -ENOBUFS : 0; }
    void armed() noexcept override { pool_.request_begun(); }
    void disarmed() noexcept override { pool_.request_ended(); }

    static void on_buffer_available(detail::buffer_waiter& self) noexcept {
        static_cast<state&>(self).arm_for_waiter();
    }

    detail::buffer_pool_state& pool_;
    fd_ref socket_;
    msghdr layout_{};
    std::uint16_t first_ = 0;
    std::uint16_t last_ = 0;
    unsigned held_count_ = 0;
};

message_stream::message_stream(ring& loop, fd_ref socket, buffer_pool& pool,
                               std::size_t control_bytes)
    : multishot_stream(new state(loop, socket, pool.state(), control_bytes)) {}

result<pooled_message> message_stream::next_operation::await_resume() noexcept {
    if (!has_item()) return failure();
    return static_cast<message_stream::state&>(state()).take();
}

}  // namespace kevring
