#include <kevring/runtime/operations/accept.hpp>

#include <kevring/runtime/detail/uring.hpp>

#include <sys/socket.h>

namespace kevring {

void accept_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_accept(&sqe, listener_.number(), peer_, peer_bytes_, SOCK_CLOEXEC);
}

// Connections that no task takes are held here, up to a limit; then the request is ended, and the
// backlog of the listener holds the rest.
class accept_stream::state final : public detail::multishot_state {
public:
    state(ring& loop, fd_ref listener) : multishot_state(loop), listener_(listener) {
        waiting_.reserve(2 * held_max);
    }

    void prepare(io_uring_sqe& sqe) noexcept override {
        io_uring_prep_multishot_accept(&sqe, listener_.number(), nullptr, nullptr, SOCK_CLOEXEC);
    }

    fd take() noexcept {
        fd first = std::move(waiting_[taken_++]);
        // The taken entries are erased together, also where there is always another connection.
        if (taken_ == waiting_.size() || taken_ == held_max) {
            waiting_.erase(waiting_.begin(),
                           waiting_.begin() + static_cast<std::ptrdiff_t>(taken_));
            taken_ = 0;
        }
        return first;
    }

private:
    static constexpr std::size_t held_max = 256;

    bool has_item() const noexcept override { return taken_ < waiting_.size(); }
    bool is_full() const noexcept override { return waiting_.size() - taken_ >= held_max; }
    void store_item(std::int32_t res, std::uint32_t) noexcept override {
        try {
            waiting_.emplace_back(res);
        } catch (...) {
            fd closed(res);  // no memory to remember it: the peer sees a reset
        }
    }
    void drop_items() noexcept override {
        waiting_.clear();
        taken_ = 0;
    }

    fd_ref listener_;
    std::vector<fd> waiting_;
    std::size_t taken_ = 0;
};

accept_stream::accept_stream(ring& loop, fd_ref listener)
    : multishot_stream(new state(loop, listener)) {}

result<fd> accept_stream::next_operation::await_resume() noexcept {
    if (!has_item()) return failure();
    return static_cast<accept_stream::state&>(state()).take();
}

}  // namespace kevring
