// large_copy.hpp: the price of a system call that copies many bytes, in the middle of an await.
#pragma once

#include <kevring/runtime/ring.hpp>

namespace kevring::detail {

/// As ring::spend_inline_budget(), for a call that takes as long as many resumptions: after a few of
/// them the loop resumes other coroutines.
inline bool spend_large_copy(ring& loop) noexcept {
    constexpr int units = 16;
    for (int count = 0; count < units; ++count)
        if (!loop.spend_inline_budget()) return false;
    return true;
}

}  // namespace kevring::detail
