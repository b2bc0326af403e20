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

// The state of a transfer, and the results in its record.
//
// ret_data[0]   low half of the bytes sent
// ret_data[1]   high half of them; of a transfer that failed, the negative error number
readiness set_outcome(const aio_completion& ticket, ukevent& record) noexcept {
    if (!ticket.finished()) return readiness::not_ready;
    record.ret_data[0] = static_cast<std::uint32_t>(ticket.byte_count());
    if (ticket.error_number() != 0) {
        record.ret_data[1] = static_cast<std::uint32_t>(-ticket.error_number());
        return readiness::broken;
    }
    record.ret_data[1] = static_cast<std::uint32_t>(ticket.byte_count() >> 32);
    return readiness::ready;
}

// A record that was marked ready has no other way to report a failure.
void set_final_outcome(const aio_completion& ticket, ukevent& record) noexcept {
    if (set_outcome(ticket, record) == readiness::broken) record.ret_flags |= KEVENT_RET_BROKEN;
}

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
        set_final_outcome(*ticket_, registration_.record);
        return true;
    }

private:
    std::uint32_t wanted_bits() const noexcept override { return POLLIN; }
    readiness evaluate(std::uint32_t poll_bits) noexcept override {
        return (poll_bits & POLLIN) != 0 ? set_outcome(*ticket_, registration_.record)
                                         : readiness::not_ready;
    }

    const std::shared_ptr<aio_completion> ticket_;
};

class loop_aio_source final : public source {
public:
    loop_aio_source(source_host& host, registration& target,
                    std::shared_ptr<aio_completion> ticket) noexcept
        : source(host, target), ticket_(std::move(ticket)) {}

    int arm() override { return 0; }
    void disarm() noexcept override {}
    readiness test() override { return set_outcome(*ticket_, registration_.record); }
    readiness test_on_add() override { return readiness::not_ready; }
    void on_removed() noexcept override { ticket_->stop.request_stop(); }
    std::uint32_t forced_flags() const noexcept override { return KEVENT_REQ_ONESHOT; }
    bool before_collect() noexcept override {
        set_final_outcome(*ticket_, registration_.record);
        return true;
    }

private:
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
    if (!event_fd_.valid()) return;
    const std::uint64_t one = 1;
    static_cast<void>(!::write(event_fd_.number(), &one, sizeof one));
}

std::unique_ptr<source> make_loop_aio_source(source_host& host, registration& target,
                                             std::shared_ptr<aio_completion> ticket) {
    return std::make_unique<loop_aio_source>(host, target, std::move(ticket));
}

result<std::unique_ptr<source>> make_aio_source(source_host& host, registration& target,
                                                std::shared_ptr<aio_completion> ticket) {
    hidden_fd notice = hidden_fd::duplicate(ticket->event_fd());
    if (!notice) return error_from_errno();
    return std::make_unique<aio_source>(host, target, std::move(ticket), std::move(notice));
}

}  // namespace kevring::detail
