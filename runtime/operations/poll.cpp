#include <kevring/runtime/operations/poll.hpp>

#include <kevring/runtime/detail/uring.hpp>

#include <utility>

namespace kevring {

void poll_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_poll_add(&sqe, file_.number(), events_);
}

class poll_stream::state final : public detail::multishot_state {
public:
    state(ring& loop, fd_ref file, std::uint32_t events)
        : multishot_state(loop), file_(file), events_(events) {}

    void prepare(io_uring_sqe& sqe) noexcept override {
        io_uring_prep_poll_multishot(&sqe, file_.number(), events_);
    }

    std::uint32_t take() noexcept { return std::exchange(pending_, 0); }

private:
    bool has_item() const noexcept override { return pending_ != 0; }
    bool is_full() const noexcept override { return false; }  // events merge
    void store_item(std::int32_t res, std::uint32_t) noexcept override {
        pending_ |= static_cast<std::uint32_t>(res);
    }
    void drop_items() noexcept override { pending_ = 0; }

    fd_ref file_;
    std::uint32_t events_;
    std::uint32_t pending_ = 0;
};

poll_stream::poll_stream(ring& loop, fd_ref file, std::uint32_t events)
    : multishot_stream(new state(loop, file, events)) {}

result<std::uint32_t> poll_stream::next_operation::await_resume() noexcept {
    if (!has_item()) return failure();
    return static_cast<poll_stream::state&>(state()).take();
}

}  // namespace kevring
