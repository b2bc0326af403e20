// own_awaitable.cpp: an awaitable of a program's own; docs/awaitables.md explains it line by line.
//
// It computes a sum on a thread, while the loop serves other coroutines. Prints the sum of 1 to 1000,
// then the error of a sum that its deadline stops.
#include <kevring/kevring.hpp>

#include <cinttypes>
#include <coroutine>
#include <cstdint>
#include <cstdio>
#include <stop_token>
#include <thread>

/// The sum of 1 to `last`, computed on a thread of its own.
///
/// Errors     operation_canceled and timed_out, by the scope around it.
/// Lifetime   Lives in the awaiting coroutine's frame, and does not move once it is awaited.
class [[nodiscard]] sum_on_thread : private kevring::work, private kevring::cancel_hook {
public:
    explicit sum_on_thread(std::uint64_t last) noexcept
        : kevring::work(finished), kevring::cancel_hook(stopped), last_(last) {}
    sum_on_thread(sum_on_thread&& other) noexcept : sum_on_thread(other.last_) {}

    bool await_ready() const noexcept { return last_ == 0; }

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter) {
        kevring::cancel_scope& scope = *kevring::scope_of(waiter);
        if (scope.stop_requested()) {
            cause_ = scope.cause();
            return false;  // the coroutine continues at once
        }
        loop_ = &scope.loop();
        loop_->expect_post();  // the destructor of the ring waits for the thread
        waiter_ = waiter;
        thread_ = std::jthread([this](std::stop_token stop) { add(stop); });
        scope.add(*this);
        return true;
    }

    [[nodiscard]] kevring::result<std::uint64_t> await_resume() const noexcept {
        if (cause_ == kevring::stop_cause::none) return sum_;
        return kevring::error_from(cause_ == kevring::stop_cause::deadline
                                       ? std::errc::timed_out
                                       : std::errc::operation_canceled);
    }

private:
    // On the thread.
    void add(std::stop_token stop) noexcept {
        for (std::uint64_t i = 1; i <= last_ && !stop.stop_requested(); ++i) sum_ += i;
        loop_->post_expected(*this);  // last: the loop may destroy this object at once
    }
    // On the loop's thread, from the run queue.
    static void finished(kevring::work& item) noexcept {
        auto& self = static_cast<sum_on_thread&>(item);
        self.thread_.join();
        self.unlink();          // first: no stop may reach an await that has ended
        self.waiter_.resume();  // last: the frame, and this object in it, may be destroyed
    }
    // On the loop's thread, from wherever the stop was requested: it only asks.
    static void stopped(kevring::cancel_hook& hook, kevring::stop_cause cause) noexcept {
        auto& self = static_cast<sum_on_thread&>(hook);
        self.cause_ = cause;
        self.thread_.request_stop();
    }

    std::uint64_t last_;
    std::uint64_t sum_ = 0;  // written by the thread, read after it was joined
    kevring::stop_cause cause_ = kevring::stop_cause::none;
    kevring::ring* loop_ = nullptr;
    std::coroutine_handle<> waiter_;
    std::jthread thread_;
};

kevring::task<void> show() {
    using namespace std::chrono_literals;
    const auto small = co_await sum_on_thread(1000);
    std::printf("%" PRIu64 "\n", small.value());

    const auto large = co_await kevring::with_timeout(sum_on_thread(UINT64_MAX), 10ms);
    std::printf("%s\n", large ? "?" : large.error().message().c_str());
}

int main() { kevring::run(show()); }
