#include <kevring/runtime/operations/receive.hpp>

#include <kevring/runtime/detail/buffer_pool_state.hpp>
#include <kevring/runtime/detail/byte_count.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/detail/warm_bytes.hpp>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include <poll.h>

namespace kevring {

void receive_operation::prepare(io_uring_sqe& sqe) noexcept {
    detail::bytes_are_warm = true;  // by the time it ends
    io_uring_prep_recv(&sqe, socket_.number(), buffer_.data(), detail::byte_count(buffer_.size()),
                       flags_);
}

// The received bytes are a queue of the pool's buffers, linked through their slots; the chunks that
// were spilled to make room for others precede it.
class receive_stream::state final : public detail::multishot_state,
                                    private detail::buffer_waiter,
                                    private detail::buffer_holder {
public:
    state(ring& loop, fd_ref socket, detail::buffer_pool_state& pool) noexcept
        : multishot_state(loop),
          buffer_waiter(on_buffer_available),
          buffer_holder(spill_held),
          pool_(pool),
          socket_(socket),
          single_(pool.large_buffer_bytes() != 0) {
        pool_.ref();
    }
    ~state() override {
        buffer_waiter::unlink();
        buffer_holder::unlink();
        pool_.unref();
    }

    void prepare(io_uring_sqe& sqe) noexcept override {
        if (large_) {
            io_uring_prep_poll_add(&sqe, socket_.number(), POLLIN | POLLRDHUP);
            return;
        }
        if (single_)
            io_uring_prep_recv(&sqe, socket_.number(), nullptr, pool_.buffer_bytes(), 0);
        else
            io_uring_prep_recv_multishot(&sqe, socket_.number(), nullptr, 0, 0);
        sqe.flags |= IOSQE_BUFFER_SELECT;
        sqe.buf_group = pool_.group();
    }

    bool has_bytes() const noexcept { return held_count_ > 0 || spilled_ != nullptr; }
    borrowed_buffer take() noexcept {
        if (spilled_ != nullptr) [[unlikely]] {
            --spilled_count_;
            return pool_.lend(*std::exchange(spilled_, spilled_->next));
        }
        if (held_count_ == 0) return {};  // the end
        const std::uint16_t index = first_;
        first_ = pool_.at(index).next;
        if (--held_count_ == 0 && buffer_holder::linked()) buffer_holder::unlink();
        return pool_.lend(index);
    }

    // Bytes that were received elsewhere, in the form of those that had to make room.
    void prepend(std::span<const std::byte> bytes) {
        constexpr std::size_t piece_bytes_max = std::size_t{1} << 20;
        detail::spilled_chunk* first = nullptr;
        detail::spilled_chunk** last = &first;
        std::uint16_t count = 0;
        while (!bytes.empty()) {
            const auto part = bytes.first(std::min(bytes.size(), piece_bytes_max));
            *last = detail::spilled_chunk::copy(part);
            if (*last == nullptr) {
                while (first != nullptr)
                    detail::spilled_chunk::free(std::exchange(first, first->next));
                throw std::bad_alloc();
            }
            last = &(*last)->next;
            ++count;
            bytes = bytes.subspan(part.size());
        }
        *last = std::exchange(spilled_, first);
        spilled_count_ = static_cast<std::uint16_t>(spilled_count_ + count);
    }

private:
    // Buffers that a peer can fill ahead: enough for one iteration, a small part of the pool.
    static constexpr unsigned held_max = 8;
    static constexpr unsigned small_count_max = 16;

    bool has_item() const noexcept override { return has_bytes() || ended_; }
    bool is_full() const noexcept override { return held_count_ + spilled_count_ >= held_max; }

    void store_item(std::int32_t res, std::uint32_t flags) noexcept override {
        if (polls_) {
            readable_ = true;
            return;
        }
        if ((flags & IORING_CQE_F_BUFFER) != 0) {
            const auto index = static_cast<std::uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT);
            pool_.mark_selected(index, res > 0 ? static_cast<std::size_t>(res) : 0);
            if (res <= 0) {
                pool_.recycle(index);
            } else {
                pool_.at(index).byte_count = static_cast<std::uint32_t>(res);
                if (held_count_ == 0)
                    first_ = index;
                else
                    pool_.at(last_).next = index;
                last_ = index;
                ++held_count_;
                if (!has_waiter()) pool_.add_holder(*this);
                single_ = static_cast<std::size_t>(res) == pool_.buffer_bytes() &&
                          pool_.large_buffer_bytes() != 0;
                if (single_) {
                    large_ = true;
                    readable_ = true;
                    small_count_ = 0;
                }
            }
        }
        if (res == 0) ended_ = true;
    }

    void drop_items() noexcept override {
        buffer_waiter::unlink();
        buffer_holder::unlink();
        while (spilled_ != nullptr) pool_.recycle(*std::exchange(spilled_, spilled_->next));
        spilled_count_ = 0;
        for (; held_count_ > 0; --held_count_) {
            const std::uint16_t index = first_;
            first_ = pool_.at(index).next;  // first: the kernel may take the buffer at once
            pool_.recycle(index);
        }
    }

    static void spill_held(detail::buffer_holder& receiver) noexcept {
        auto& self = static_cast<state&>(receiver);
        detail::spilled_chunk** last = &self.spilled_;
        while (*last != nullptr) last = &(*last)->next;
        while (self.held_count_ > 0) {
            const std::uint16_t index = self.first_;
            const std::uint16_t next = self.pool_.at(index).next;  // first: it may be taken at once
            *last = self.pool_.spill(index);
            if (*last == nullptr) return;
            last = &(*last)->next;
            self.first_ = next;
            --self.held_count_;
            ++self.spilled_count_;
        }
    }

    // No buffer is normal: the pool grows, or a buffer is returned later.
    bool is_transient(std::int32_t res) noexcept override {
        if (res != -ENOBUFS || pool_.closed()) return false;
        pool_.on_exhausted();
        return true;
    }
    bool may_arm() noexcept override { return large_ || pool_.ready_or_wait(*this); }
    void cancel_pending_arm() noexcept override { buffer_waiter::unlink(); }
    std::int32_t arming_error() const noexcept override { return pool_.closed() ? -ENOBUFS : 0; }
    void armed() noexcept override {
        polls_ = large_;
        pool_.request_begun();
    }
    void disarmed() noexcept override { pool_.request_ended(); }

    // A message that fills a buffer has more behind it. One recv(2) takes as much as has come into
    // a buffer that is still in the processor's caches, when the program asks for it; the request
    // only waits until the socket is readable.
    bool is_outgrown() const noexcept override { return large_ && !polls_; }
    bool fetch() noexcept override {
        if (!large_ || !readable_ || pool_.closed()) return false;
        detail::spilled_chunk* const piece = pool_.take_large();
        if (piece == nullptr) {
            large_ = false;
            return false;
        }
        ssize_t count = -EINTR;
        while (count == -EINTR)
            count = pool_.system().receive_nowait(socket_.number(), piece->bytes(),
                                                  pool_.large_buffer_bytes());
        if (count <= 0) {
            pool_.recycle(*piece);
            readable_ = false;
            if (count == -EAGAIN) return false;
            if (count == 0)
                ended_ = true;
            else
                fail(static_cast<std::int32_t>(count));
            return true;
        }
        const auto byte_count = static_cast<std::size_t>(count);
        piece->byte_count = static_cast<std::uint32_t>(byte_count);
        piece->seal();
        spilled_ = piece;
        ++spilled_count_;
        detail::bytes_are_warm = true;
        readable_ = byte_count == pool_.large_buffer_bytes();
        if (byte_count > pool_.buffer_bytes() / 2)
            small_count_ = 0;
        else if (++small_count_ == small_count_max)
            large_ = single_ = false;
        return true;
    }
    static void on_buffer_available(detail::buffer_waiter& self) noexcept {
        static_cast<state&>(self).arm_for_waiter();
    }

    detail::buffer_pool_state& pool_;
    fd_ref socket_;
    std::uint16_t first_ = 0;
    std::uint16_t last_ = 0;
    std::uint16_t held_count_ = 0;
    std::uint16_t spilled_count_ = 0;
    detail::spilled_chunk* spilled_ = nullptr;  // the first of them
    bool ended_ = false;
    bool large_ = false;     // the next request is a poll, before a recv(2) into a large buffer
    bool polls_ = false;     // so is the one in flight
    bool readable_ = false;  // bytes may be there
    // The next receive takes one buffer. A multishot receive takes as many buffers as the socket can
    // fill, before the first of them tells that the messages are large.
    bool single_;
    std::uint8_t small_count_ = 0;  // messages in a row that would have fitted into a small buffer
};

receive_stream::receive_stream(ring& loop, fd_ref socket, buffer_pool& pool)
    : multishot_stream(new state(loop, socket, pool.state())) {}

void receive_stream::prepend(std::span<const std::byte> bytes) {
    static_cast<state&>(*state_).prepend(bytes);
}

receive_stream::receive_stream(ring& loop, fd_ref socket)
    : receive_stream(loop, socket, loop.service<buffer_pool>()) {}

result<std::size_t> receive_stream::pieces_operation::await_resume() noexcept {
    if (!has_item()) return failure();
    auto& source = static_cast<receive_stream::state&>(state());
    std::size_t count = 0;
    while (count < pieces_.size() && source.has_bytes()) pieces_[count++] = source.take();
    return count;
}

result<borrowed_buffer> receive_stream::next_operation::await_resume() noexcept {
    if (!has_item()) return failure();
    return static_cast<receive_stream::state&>(state()).take();
}

}  // namespace kevring
