#include <kevring/runtime/detail/deep_stack.hpp>

#include <kevring/runtime/detail/frame_pool.hpp>
#include <kevring/runtime/work.hpp>

#include <cstddef>
#include <exception>

namespace kevring::detail {
namespace {

struct later_resume : work {
    explicit later_resume(std::coroutine_handle<> coroutine) noexcept
        : work(run_once), coroutine(coroutine) {}

    static void* operator new(std::size_t bytes) { return allocate_frame(bytes); }
    static void operator delete(void* memory, std::size_t bytes) noexcept {
        free_frame(memory, bytes);
    }

    static void run_once(work& item) noexcept {
        auto* const self = static_cast<later_resume*>(&item);
        const std::coroutine_handle<> coroutine = self->coroutine;
        delete self;
        coroutine.resume();
    }

    std::coroutine_handle<> coroutine;
};

}  // namespace

bool resume_later(ring& loop, std::coroutine_handle<> coroutine) noexcept {
    try {
        loop.schedule(*new later_resume(coroutine));
        return true;
    } catch (...) {
        return false;
    }
}

}  // namespace kevring::detail
