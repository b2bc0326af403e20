#include <kevring/runtime/operations/advise.hpp>

#include <kevring/runtime/detail/byte_count.hpp>
#include <kevring/runtime/detail/uring.hpp>

namespace kevring {

void advise_operation::prepare(io_uring_sqe& sqe) noexcept {
    // The length has 32 bits: longer parts are advised about up to there.
    io_uring_prep_fadvise(&sqe, file_.number(), file_offset_,
                          static_cast<off_t>(detail::byte_count(count_)), advice_);
}

}  // namespace kevring
