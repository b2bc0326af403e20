#include <kevring/runtime/detail/frame_pool.hpp>

#include <new>

namespace kevring::detail {

#if KEVRING_RECYCLE_FRAMES
[[gnu::tls_model("initial-exec")]] constinit thread_local idle_frames frames;

namespace {

// Returns the idle frames of a thread that ends, and keeps none from then on.
struct frames_guard {
    frames_guard() noexcept { frames.alive = true; }
    ~frames_guard() {
        frames.alive = false;
        for (idle_frame*& first : frames.first)
            while (first != nullptr) {
                idle_frame* const frame = first;
                first = frame->next;
                ::operator delete(frame);
            }
    }
};

}  // namespace
#endif

void* allocate_fresh_frame(std::size_t bytes) {
#if KEVRING_RECYCLE_FRAMES
    thread_local frames_guard guard;
    static_cast<void>(guard);  // the first use constructs it
    const std::size_t index = frame_class(bytes);
    if (index < frame_class_count) return ::operator new(frame_class_bytes(index));
#endif
    return ::operator new(bytes);
}

void free_frame_memory(void* frame) noexcept { ::operator delete(frame); }

}  // namespace kevring::detail
