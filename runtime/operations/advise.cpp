#include <kevring/runtime/operations/advise.hpp>

#include <kevring/runtime/detail/byte_count.hpp>
#include <kevring/runtime/detail/uring.hpp>

namespace kevring {

void advise_operation::prepare(io_uring_sqe& sqe) noexcept {
    // The length field has 32 bits. A longer range is shortened: advice is only a hint.
    io_uring_prep_fadvise(&sqe, file_.number(), file_offset_,
                          static_cast<off_t>(detail::byte_count(count_)), advice_);
}

}  // namespace kevring
