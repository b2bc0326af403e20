#include <kevring/sendfile/send_budget.hpp>

#include <kevring/runtime/work.hpp>
#include <kevring/sendfile/detail/transfer.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace kevring {

// The bytes that the transfers of one loop have sent in this iteration, and the FIFO queue of those
// that wait for an iteration with budget left.
class send_scheduler final : public ring_service, private work {
public:
    // About 250 us of sendfile(2): the delay of other connections.
    static constexpr std::size_t iteration_bytes_max = 2 * 1024 * 1024;

    explicit send_scheduler(ring& loop) noexcept : work(resume_waiters), loop_(loop) {}

    bool available() noexcept { return (first_ == nullptr || resuming_first_) && has_budget(); }

    void charge(std::size_t byte_count) noexcept {
        has_budget();
        byte_count_ += byte_count;
        resuming_first_ = false;
    }

    void enqueue(send_budget& one) noexcept {
        one.next_ = nullptr;  // a waiter that awaits again goes to the end of the queue
        *last_ = &one;
        last_ = &one.next_;
        schedule();
    }

private:
    bool has_budget() noexcept {
        if (const std::uint64_t iteration = loop_.counters().iterations; iteration != iteration_) {
            iteration_ = iteration;
            byte_count_ = 0;
        }
        return byte_count_ < iteration_bytes_max;
    }
    void schedule() noexcept {
        if (!std::exchange(scheduled_, true)) loop_.schedule(*this);
    }
    static void resume_waiters(work& item) noexcept {
        auto& self = static_cast<send_scheduler&>(item);
        self.scheduled_ = false;
        send_budget** const last =
            self.last_;  // waiters added by a resumed one wait for the next iteration
        while (self.first_ != nullptr && self.has_budget()) {
            send_budget& one = *self.first_;
            const bool ends = &one.next_ == last;
            self.first_ = one.next_;
            if (self.first_ == nullptr) self.last_ = &self.first_;
            self.resuming_first_ = true;
            one.waiter_.resume();  // last: `one` may be destroyed on return
            self.resuming_first_ = false;
            if (ends) break;
        }
        if (self.first_ != nullptr) self.schedule();
    }

    ring& loop_;
    std::uint64_t iteration_ = 0;
    std::size_t byte_count_ = 0;
    send_budget* first_ = nullptr;
    send_budget** last_ = &first_;
    bool resuming_first_ = false;  // the first waiter runs, and has sent nothing yet
    bool scheduled_ = false;
};

bool send_budget::available(ring& loop) noexcept {
    send_scheduler* const line = loop.find_service<send_scheduler>();
    return line == nullptr || line->available();
}

send_budget::send_budget(ring& loop) : scheduler_(loop.service<send_scheduler>()) {}

void send_budget::await_suspend(std::coroutine_handle<> waiter) noexcept {
    waiter_ = waiter;
    scheduler_.enqueue(*this);
}

namespace detail {

void charge_budget(ring& loop, std::size_t byte_count) {
    loop.service<send_scheduler>().charge(byte_count);
}

}  // namespace detail
}  // namespace kevring
