#include <kevring/runtime/detail/frame_pool.hpp>

#include <array>
#include <new>

// Under AddressSanitizer every frame is fresh, or a use after its end would pass unseen.
#if defined(__SANITIZE_ADDRESS__)
#define KEVRING_RECYCLE_FRAMES 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEVRING_RECYCLE_FRAMES 0
#endif
#endif
#ifndef KEVRING_RECYCLE_FRAMES
#define KEVRING_RECYCLE_FRAMES 1
#endif

namespace kevring::detail {

#if KEVRING_RECYCLE_FRAMES
namespace {

constexpr std::size_t class_bytes = 64;     // sizes are rounded up to a multiple of this
constexpr std::size_t class_count = 64;     // so frames up to 4 KiB are kept
constexpr unsigned frames_kept_max = 1024;  // of one class, so that a burst gives memory back

struct free_frame_link {
    free_frame_link* next;
};

struct free_list {
    free_frame_link* first = nullptr;
    unsigned count = 0;
};

struct pool {
    std::array<free_list, class_count> lists;
    bool alive = true;
    ~pool() {
        alive = false;
        for (free_list& list : lists)
            while (list.first != nullptr) {
                free_frame_link* const frame = list.first;
                list.first = frame->next;
                ::operator delete(frame);
            }
    }
};

[[gnu::tls_model("initial-exec")]] thread_local pool frames;

}  // namespace

void* allocate_frame(std::size_t bytes) {
    const std::size_t index = (bytes - 1) / class_bytes;
    if (index >= class_count) [[unlikely]]
        return ::operator new(bytes);
    free_list& list = frames.lists[index];
    if (free_frame_link* const frame = list.first) {
        list.first = frame->next;
        --list.count;
        return frame;
    }
    return ::operator new((index + 1) * class_bytes);
}

void free_frame(void* frame, std::size_t bytes) noexcept {
    const std::size_t index = (bytes - 1) / class_bytes;
    if (index < class_count && frames.alive) [[likely]] {
        free_list& list = frames.lists[index];
        if (list.count < frames_kept_max) {
            auto* const link = static_cast<free_frame_link*>(frame);
            link->next = list.first;
            list.first = link;
            ++list.count;
            return;
        }
    }
    ::operator delete(frame);
}
#else
void* allocate_frame(std::size_t bytes) { return ::operator new(bytes); }
void free_frame(void* frame, std::size_t) noexcept { ::operator delete(frame); }
#endif

}  // namespace kevring::detail
