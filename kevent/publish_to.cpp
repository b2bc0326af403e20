// publish_to.cpp: a loop moves the events of its queue into a ring that other threads read.
#include <kevring/kevent/event_queue.hpp>

#include <kevring/kevent/event_ring.hpp>
#include <kevring/runtime/reset_event.hpp>
#include <kevring/runtime/sleep.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <thread>

namespace kevring {
namespace {

// Events that are taken from the queue at a time.
constexpr unsigned batch_max = 64;

// While another producer listens for space, this one tests again after this time.
constexpr std::chrono::milliseconds retry_interval{1};

// Space in one ring, awaited once.
class space_wait final : public space_listener {
public:
    explicit space_wait(event_ring& target) noexcept : target_(target) {}
    space_wait(const space_wait&) = delete;
    space_wait& operator=(const space_wait&) = delete;
    // The thread that commits may still be in on_space(), which ends soon.
    ~space_wait() {
        if (!listens_ || target_.stop_listening_for_space(*this)) return;
        while (!called_.load(std::memory_order_acquire)) std::this_thread::yield();
    }

    bool start() noexcept { return listens_ = target_.listen_for_space(*this); }
    void on_space() noexcept override {
        freed_.set();
        // release: pairs with the destructor. Last: the object may be destroyed on return.
        called_.store(true, std::memory_order_release);
    }
    auto freed() noexcept { return freed_.wait(); }

private:
    event_ring& target_;
    cross_loop::auto_reset_event freed_;
    std::atomic<bool> called_{false};
    bool listens_ = false;
};

task<result<void>> wait_for_space(event_ring& target) {
    space_wait space(target);
    if (space.start()) {
        const auto freed = co_await space.freed();
        co_return freed;
    }
    if (!target.is_full()) co_return result<void>();
    // A ring has one listener, and another producer is it: this one tests again after a pause.
    const auto slept = co_await sleep_for(retry_interval);
    co_return slept;
}

}  // namespace

task<result<void>> event_queue::publish_to(event_ring& target) {
    while (true) {
        while (!unpublished_.empty()) {
            const std::size_t count = target.publish(unpublished_);
            unpublished_.erase(unpublished_.begin(),
                               unpublished_.begin() + static_cast<std::ptrdiff_t>(count));
            if (unpublished_.empty()) break;
            const auto space = co_await wait_for_space(target);
            if (!space) co_return tl::unexpected<std::error_code>(space.error());
        }
        unpublished_.reserve(batch_max);  // first: no event is lost for want of memory
        const auto events = co_await wait(1, batch_max);
        if (!events) co_return tl::unexpected<std::error_code>(events.error());
        for (const event& one : *events) unpublished_.push_back(one.record());
    }
}

}  // namespace kevring
