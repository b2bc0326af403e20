// fd_source.cpp: see fd_source.hpp.
#include <kevring/kevent/sources/fd_source.hpp>

#include <kevring/runtime/kernel.hpp>

#include <cerrno>
#include <utility>

#include <poll.h>
#include <sys/stat.h>

namespace kevring::detail {

fd_source::~fd_source() {
    sharing_.leave();
    host_.unwatch(watch_);
}

int fd_source::number() const noexcept {
    return watched_fd_ ? watched_fd_.number() : static_cast<int>(registration_.record.id.raw[0]);
}

int fd_source::arm() {
    if (!watched_fd_) {
        hidden_fd duplicate = hidden_fd::duplicate(fd_ref(number()));
        if (!duplicate) return -errno;
        set_watched(std::move(duplicate));
    }
    // With an empty mask no activity counts, errors included, which the kernel would report.
    if (event() == KEVENT_MASK_EMPTY) {
        disarm();
        return 0;
    }
    watch_.prefetch_hint = &registration_;
    // Second: what comes between is reported, and then taken for the answer.
    was_ready_when_armed_ = sharing_.is_shared() && (bits_now() & wanted_bits()) != 0;
    sharing_.restrict_mask(event());  // first, as in disarm()
    const int answer = host_.watch(watch_, *this, wanted_bits());
    if (watch_.slot != 0) sharing_.set_armed(watch_, event());
    return answer == -EPERM ? -EINVAL : answer;  // it cannot be polled
}

void fd_source::prepare_arm() noexcept {
    // Of a shared file arm() asks first which bits are set.
    if (watch_.slot != 0 && watch_.poll_bits == wanted_bits() && !sharing_.is_shared())
        host_.prepare_watch(watch_);
}

pollfd fd_source::poll_question() const noexcept {
    return {number(), static_cast<short>(wanted_bits()), 0};
}

std::uint32_t fd_source::bits_now() const noexcept {
    pollfd now = poll_question();
    if (kernel::real().poll_nowait(&now, 1) < 0) return 0;
    return static_cast<std::uint16_t>(now.revents);
}

readiness fd_source::test() { return evaluate(bits_now()); }

void fd_source::disarm() noexcept {
    sharing_.set_disarmed();  // first: a registration that is not notified must consume nothing
    host_.unwatch(watch_);
}

// A younger registration kept silent for this one. An event that is still in the kernel is fetched:
// what it has delivered already is not reported again. A driver has dispatched what came before the
// call; for an event since then the younger one is tested again.
void fd_source::on_removed() noexcept {
    if (!sharing_.owes_event()) return;
    host_.fetch_reports();
    if (sharing_.resume_debt(registration_.ready())) return;
    if (!registration_.ready() && !host_.is_driven()) sharing_.set_delivered();
}

void fd_source::on_ready(std::uint32_t poll_bits) noexcept {
    if (!registration_.armed) return;
    const bool is_answer = std::exchange(was_ready_when_armed_, false);
    const readiness state = evaluate(poll_bits);
    if (state == readiness::ready && !is_answer && !registration_.has(KEVENT_REQ_WAKEUP_ALL) &&
        sharing_.consumed_by_older(poll_bits)) {
        if (!registration_.ready()) set_results(0, 0);
        return;
    }
    host_.report(registration_, state);
}

result<struct stat> fd_source::status_of(const registration& target) noexcept {
    struct stat status{};
    const int number = static_cast<int>(target.record.id.raw[0]);
    if (const int answer = kernel::real().stat_file(number, status); answer < 0)
        return error_from(answer);
    return status;
}

}  // namespace kevring::detail
