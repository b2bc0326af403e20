// loop_request.cpp: see loop_request.hpp.
#include <kevring/kevent/ports/loop_request.hpp>

#include <kevring/kevent/ports/loop_attachment.hpp>

#include <algorithm>
#include <cerrno>

namespace kevring::detail {

// Hot path, on the loop's thread: no allocation, no mutex and no system call.

void loop_port::request::complete(std::int32_t res, std::uint32_t flags) noexcept {
    if (res > 0 && !is_detached) owner.record(*this, static_cast<std::uint32_t>(res));
    if ((flags & IORING_CQE_F_MORE) != 0) return;
    is_in_kernel = false;
    owner.ended(*this, std::min(res, 0));
}

void loop_port::request::change::prepare(io_uring_sqe& sqe) noexcept {
    completion& target = self;
    io_uring_prep_poll_update(&sqe, reinterpret_cast<std::uintptr_t>(&target), 0, self.poll_bits,
                              IORING_POLL_UPDATE_EVENTS | IORING_POLL_ADD_MULTI);
}

void loop_port::request::change::complete(std::int32_t res, std::uint32_t) noexcept {
    self.is_change_in_kernel = false;
    // EALREADY: a wake-up was pending, whose completion comes first. ENOENT: the poll has ended, and
    // is armed again with these bits.
    if (res == -EALREADY) self.is_change_wanted = true;
    if (self.is_detached) {
        self.owner.ended(self, 0);
    } else if (self.is_change_wanted) {
        self.owner.arm_later();
    }
}

}  // namespace kevring::detail
