// aio.cpp: the end of a transfer from a file to a socket, begun by aio_sendfile() and the related
// calls.
#include <kevring/kevent/detail/aio_completion.hpp>
#include <kevring/kevent/sources/fd_source.hpp>

#include <cerrno>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace kevring::detail {
namespace {

// ret_data[0]   low half of the bytes sent
// ret_data[1]   high half of them; of a transfer that failed, the negative error number
class aio_source final : public fd_source {
public:
    aio_source(source_host& host, registration& target, std::shared_ptr<aio_completion> ticket,
               hidden_fd notice) noexcept
        : fd_source(host, target), ticket_(std::move(ticket)) {
        set_watched(std::move(notice));
    }

    void on_removed() noexcept override { ticket_->stop.request_stop(); }
    // A transfer ends once, whatever MODIFY says.
    std::uint32_t forced_flags() const noexcept override { return KEVENT_REQ_ONESHOT; }
    bool before_collect() noexcept override {
        // READY may request a record whose transfer is over, before a check of it.
        if (outcome() == readiness::broken) registration_.record.ret_flags |= KEVENT_RET_BROKEN;
        return true;
    }

private:
    std::uint32_t wanted_bits() const noexcept override { return POLLIN; }
    readiness evaluate(std::uint32_t poll_bits) noexcept override {
        return (poll_bits & POLLIN) != 0 ? outcome() : readiness::not_ready;
    }
    readiness outcome() noexcept {
        if (!ticket_->finished()) return readiness::not_ready;
        const auto low = static_cast<std::uint32_t>(ticket_->byte_count());
        if (ticket_->error_number() != 0) {
            set_results(low, static_cast<std::uint32_t>(-ticket_->error_number()));
            return readiness::broken;
        }
        set_results(low, static_cast<std::uint32_t>(ticket_->byte_count() >> 32));
        return readiness::ready;
    }

    const std::shared_ptr<aio_completion> ticket_;
};

}  // namespace

result<std::shared_ptr<aio_completion>> aio_completion::make() {
    hidden_fd notice =
        hidden_fd::open([]() noexcept { return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); });
    if (!notice) return error_from_errno();
    return std::make_shared<aio_completion>(std::move(notice));
}

void aio_completion::finish(std::uint64_t byte_count, int error_number) noexcept {
    byte_count_ = byte_count;
    error_number_ = error_number;
    finished_.store(true, std::memory_order_release);  // pairs with finished()
    const std::uint64_t one = 1;
    static_cast<void>(!::write(event_fd_.number(), &one, sizeof one));
}

result<std::unique_ptr<source>> make_aio_source(source_host& host, registration& target,
                                                std::shared_ptr<aio_completion> ticket) {
    hidden_fd notice = hidden_fd::duplicate(ticket->event_fd());
    if (!notice) return error_from_errno();
    return std::make_unique<aio_source>(host, target, std::move(ticket), std::move(notice));
}

}  // namespace kevring::detail
