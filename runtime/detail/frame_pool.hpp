// frame_pool.hpp: memory for coroutine frames, kept warm for the next one of the same size.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <cstddef>

namespace kevring::detail {

/// Memory for one frame. Small frames come from a free list of this thread.
///
/// Errors     std::bad_alloc.
/// Thread     Any; a frame may be freed on another thread than the one that allocated it.
void* allocate_frame(std::size_t bytes);
void free_frame(void* frame, std::size_t bytes) noexcept;

}  // namespace kevring::detail
