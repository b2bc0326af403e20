// thread_mark.hpp: tells a port that the thread which owns it has ended.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <atomic>
#include <cstdint>
#include <memory>

namespace kevring::detail {

// A thread that owns ports; the ports learn here that it is over.
struct thread_mark {
    explicit thread_mark(std::uint64_t number) noexcept : thread(number) {}

    const std::uint64_t thread;
    std::atomic<bool> is_over{false};
};
struct thread_marks {
    // Of this thread; 0: none yet. Both outlive the objects that the thread destroys at its end.
    static inline thread_local std::uint64_t present = 0;
    static inline thread_local bool has_ended = false;

    static std::shared_ptr<thread_mark> get() {
        struct holder {
            ~holder() {
                has_ended = true;
                // release: pairs with the acquire in claim().
                mark->is_over.store(true, std::memory_order_release);
            }
            const std::shared_ptr<thread_mark> mark = make();
        };
        if (has_ended) {
            // A call by a destructor at the end of the thread, or of the program: another thread may
            // claim the port at any time.
            std::shared_ptr<thread_mark> mark = make();
            mark->is_over.store(true, std::memory_order_relaxed);
            return mark;
        }
        static thread_local const holder own;
        return own.mark;
    }

private:
    static std::shared_ptr<thread_mark> make() {
        static std::atomic<std::uint64_t> last{0};
        if (present == 0) present = last.fetch_add(1, std::memory_order_relaxed) + 1;
        return std::make_shared<thread_mark>(present);
    }
};

}  // namespace kevring::detail
