// signal.cpp: signals that are delivered through the queue only.
#include <kevring/kevent/sources/fd_source.hpp>

#include <cerrno>
#include <utility>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace kevring::detail {
namespace {

constexpr std::uint64_t last_signal = 64;

// A signalfd takes a signal that would stay pending otherwise: so it has to be blocked, which is
// what NOMASK asks for. Delivery both ways cannot be had, and is refused.
//
// ADD blocks the signal in the calling thread, where it stays blocked. Signals for the process come
// here only if all threads block it: block it before threads are started. Signals for a thread
// are seen by the thread that collects.
//
// Nothing is coalesced but what the kernel coalesces: each signal that is queued is one record.
//
// ret_data[0]   the process that sent it
// ret_data[1]   the value that sigqueue(3) sent
class signal_source final : public fd_source {
public:
    signal_source(source_host& host, registration& target) noexcept
        : fd_source(host, target), asked_for_(target.has(KEVENT_REQ_READY)) {}

    static result<std::unique_ptr<source>> make(source_host& host, registration& target) {
        const std::uint64_t id = target.record.id.raw_u64;
        const std::uint64_t number = id & ~KEVENT_SIGNAL_NOMASK;
        sigset_t only;
        ::sigemptyset(&only);
        if (number == 0 || number > last_signal || number == SIGKILL || number == SIGSTOP ||
            ::sigaddset(&only, static_cast<int>(number)) != 0)  // the C library keeps some
            return error_from(-EINVAL);
        if ((id & KEVENT_SIGNAL_NOMASK) == 0) return error_from(-EOPNOTSUPP);

        hidden_fd taker = hidden_fd::open(
            [&]() noexcept { return ::signalfd(-1, &only, SFD_CLOEXEC | SFD_NONBLOCK); });
        if (!taker) return error_from_errno();
        auto made = std::make_unique<signal_source>(host, target);
        made->set_watched(std::move(taker));
        // Last: nothing can fail any more.
        ::pthread_sigmask(SIG_BLOCK, &only, nullptr);
        return made;
    }

    // Never answered when added: it would be asked of one thread only.
    readiness test_on_add() override { return readiness::not_ready; }

    void on_marked_ready() noexcept override { asked_for_ = true; }
    bool before_collect() noexcept override {
        const bool was_pending = std::exchange(pending_, false);
        const bool was_asked_for = std::exchange(asked_for_, false);
        signalfd_siginfo info{};
        if (::read(held().number(), &info, sizeof info) != sizeof info) {
            set_results(0, 0);
            // Another caller took it; but READY requests a record in any case.
            return was_asked_for || !was_pending;
        }
        set_results(info.ssi_pid, static_cast<std::uint32_t>(info.ssi_int));
        return true;
    }
    readiness after_collect() noexcept override { return test(); }

private:
    std::uint32_t wanted_bits() const noexcept override { return POLLIN; }
    readiness evaluate(std::uint32_t poll_bits) noexcept override {
        if ((poll_bits & POLLIN) == 0 || event() == KEVENT_MASK_EMPTY) {
            // A last check drops the record, also one that READY has requested.
            if (registration_.has(KEVENT_REQ_LAST_CHECK)) asked_for_ = false;
            return readiness::not_ready;
        }
        pending_ = true;
        return readiness::ready;
    }

    bool pending_ = false;
    bool asked_for_;  // by READY
};

}  // namespace

result<std::unique_ptr<source>> make_signal_source(source_host& host, registration& target) {
    return signal_source::make(host, target);
}

}  // namespace kevring::detail
