// sync_model.cpp: the primitives that cross loops, in every order that a few threads can have.
//
// The primitives are the library's own, over a domain of tests/support/interleavings.hpp: its lock and
// the mailbox of each thread are atomics of the explorer. In place of the ring and the coroutine, each
// thread waits for its mailbox, and a stop can come at any moment of the wait. That the explorer finds
// mistakes is shown by planting them.
#include "tests/support/catch.hpp"
#include "tests/support/interleavings.hpp"
#include "tests/support/model_threads.hpp"

#include <kevring/runtime/channel.hpp>
#include <kevring/runtime/latch.hpp>
#include <kevring/runtime/mutex.hpp>
#include <kevring/runtime/reset_event.hpp>
#include <kevring/runtime/semaphore.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace {

// Where the grant of a waiting thread arrives.
struct mailbox {
    model::atomic<std::uint32_t> word{0};
};

// The explorer's sleep and wake belong to a run; a verdict comes after it.
bool in_verdict = false;
// A planted mistake: a stop that follows the grant of a wait ends the wait all the same.
bool stop_ignores_grant = false;

class model_domain {
public:
    void lock() {
        std::uint32_t free = 0;
        while (!word_.compare_exchange_strong(free, 1, std::memory_order_acquire,
                                              std::memory_order_relaxed)) {
            model::model_threads::sleep(word_, 1, kevring::detail::no_deadline);
            free = 0;
        }
    }
    void unlock() {
        word_.store(0, std::memory_order_release);
        if (!in_verdict) model::model_threads::wake(word_, 1);
    }
    void resume(kevring::detail::wait_entry& entry) {
        auto& box = *reinterpret_cast<mailbox*>(entry.resume);
        box.word.store(1, std::memory_order_release);
        model::model_threads::wake(box.word, 1);
    }

private:
    model::atomic<std::uint32_t> word_{0};
};

}  // namespace

namespace kevring::detail {

// A wait of the explorer's threads: the transitions of wait_operation, without a ring. A macro, as the
// primitives give access to specializations of wait_operation only.
#define KEVRING_MODEL_WAIT(Owner)                                                       \
public:                                                                                 \
    template <class... Arguments>                                                       \
    explicit wait_operation(Owner& owner, Arguments&&... arguments)                     \
        : owner_(&owner), entry_(std::forward<Arguments>(arguments)...) {}              \
                                                                                        \
    /* Waits until granted, or where `may_stop` until stopped; the explorer decides. */ \
    bool wait(mailbox& box, bool may_stop) {                                            \
        entry_.resume = reinterpret_cast<work*>(&box);                                  \
        {                                                                               \
            const std::lock_guard guard(owner_->domain());                              \
            if (owner_->try_take(entry_)) {                                             \
                entry_.granted = true;                                                  \
                return true;                                                            \
            }                                                                           \
            owner_->enqueue(entry_);                                                    \
        }                                                                               \
        while (box.word.load(std::memory_order_acquire) == 0) {                         \
            const wait_status end = model::model_threads::sleep(                        \
                box.word, 0, may_stop ? steady_deadline{} : no_deadline);               \
            if (end != wait_status::timed_out) continue;                                \
            const std::lock_guard guard(owner_->domain());                              \
            may_stop = false;                                                           \
            if (!entry_.linked()) { /* granted: it arrives in the mailbox */            \
                if (!stop_ignores_grant) continue;                                      \
                box.word.store(0, std::memory_order_relaxed);                           \
                return false;                                                           \
            }                                                                           \
            entry_.unlink();                                                            \
            owner_->withdrawn(entry_);                                                  \
            return false;                                                               \
        }                                                                               \
        box.word.store(0, std::memory_order_relaxed);                                   \
        return true;                                                                    \
    }                                                                                   \
                                                                                        \
protected:                                                                              \
    Owner& owner() const noexcept { return *owner_; }                                   \
    Entry& entry() noexcept { return entry_; }                                          \
    bool granted() const noexcept { return entry_.granted; }                            \
    tl::unexpected<std::error_code> failure() const noexcept {                          \
        return error_from(std::errc::operation_canceled);                               \
    }                                                                                   \
    void ignore_stops() noexcept {}                                                     \
                                                                                        \
private:                                                                                \
    Owner* owner_;                                                                      \
    Entry entry_

template <template <class> class Primitive, class Entry>
class wait_operation<Primitive<model_domain>, Entry> {
    using owner_type = Primitive<model_domain>;
    KEVRING_MODEL_WAIT(owner_type);
};
template <class T, class Entry>
class wait_operation<basic_channel<T, model_domain>, Entry> {
    using owner_type = basic_channel<T, model_domain>;
    KEVRING_MODEL_WAIT(owner_type);
};

}  // namespace kevring::detail

namespace {

using kevring::basic_auto_reset_event;
using kevring::basic_barrier;
using kevring::basic_channel;
using kevring::basic_latch;
using kevring::basic_manual_reset_event;
using kevring::basic_mutex;
using kevring::basic_semaphore;
using kevring::basic_shared_mutex;

// Objects of a run that is given up in the middle: their destructors must not run.
template <class T>
class undestroyed {
public:
    template <class... Arguments>
    explicit undestroyed(Arguments&&... arguments) {
        new (&memory_) T(std::forward<Arguments>(arguments)...);
    }
    T& operator*() noexcept { return *std::launder(reinterpret_cast<T*>(&memory_)); }
    T* operator->() noexcept { return &**this; }

private:
    alignas(T) std::array<unsigned char, sizeof(T)> memory_;
};

constexpr std::size_t thread_count_max = model::explorer::thread_count_max;

// Threads that each do `rounds` times the same, and count what they did.
class sync_scenario : public model::scenario {
public:
    sync_scenario(std::size_t thread_count, bool may_stop, int rounds)
        : may_stop_(may_stop), rounds_(rounds), thread_count_(thread_count) {}

    std::size_t thread_count() const override { return thread_count_; }
    std::uint64_t state() const override {
        std::uint64_t hash = model::mixed(static_cast<std::uint64_t>(inside_ + 8), wrong_.size());
        for (const int each : done_) hash = model::mixed(hash, static_cast<std::uint64_t>(each));
        for (const int each : stopped_) hash = model::mixed(hash, static_cast<std::uint64_t>(each));
        return hash;
    }
    std::string verdict(const std::vector<bool>& asleep) override {
        if (!wrong_.empty()) return wrong_;
        for (const bool each : asleep)
            if (each) return "a waiter was never released";
        in_verdict = true;
        std::string found = final_verdict();
        in_verdict = false;
        return found;
    }

protected:
    virtual std::string final_verdict() { return {}; }
    void enter(int weight, int limit) {
        inside_ += weight;
        if (inside_ > limit) wrong_ = "too many are inside";
    }
    void leave(int weight) { inside_ -= weight; }
    // From here on only the number of the round and what state() has decide what the thread does.
    static void forget(std::size_t thread, int round) {
        model::explorer::current().forget(thread + 8 * static_cast<std::uint64_t>(round + 1));
    }

    const bool may_stop_;
    const int rounds_;
    const std::size_t thread_count_;
    int inside_ = 0;
    std::array<int, thread_count_max> done_{};
    std::array<int, thread_count_max> stopped_{};
    std::array<undestroyed<mailbox>, thread_count_max> boxes_;
    std::string wrong_;
};

class mutex_scenario final : public sync_scenario {
public:
    using sync_scenario::sync_scenario;
    void run(std::size_t thread) override {
        for (int i = 0; i < rounds_; ++i) {
            auto operation = mutex_->lock();
            if (!operation.wait(*boxes_[thread], may_stop_ && thread != 0)) {
                ++stopped_[thread];
                continue;
            }
            auto guard = operation.await_resume();
            enter(1, 1);
            ++done_[thread];
            leave(1);
            guard->unlock();
            forget(thread, i);
        }
    }

private:
    std::string final_verdict() override {
        return mutex_->try_lock() ? std::string() : "the mutex is held after all have ended";
    }
    undestroyed<basic_mutex<model_domain>> mutex_;
};

// Thread 0 writes, the others read. Readers inside count 1, a writer 100.
class shared_scenario final : public sync_scenario {
public:
    using sync_scenario::sync_scenario;
    void run(std::size_t thread) override {
        const bool writes = thread == 0;
        for (int i = 0; i < rounds_; ++i) {
            auto operation = writes ? mutex_->lock() : mutex_->lock_shared();
            if (!operation.wait(*boxes_[thread], may_stop_ && thread <= 1)) {
                ++stopped_[thread];
                continue;
            }
            auto guard = operation.await_resume();
            enter(writes ? 100 : 1, writes ? 100 : 99);
            ++done_[thread];
            leave(writes ? 100 : 1);
            guard->unlock();
            forget(thread, i);
        }
    }

private:
    std::string final_verdict() override {
        return mutex_->try_lock() ? std::string() : "the mutex is held after all have ended";
    }
    undestroyed<basic_shared_mutex<model_domain>> mutex_;
};

// Two permits; thread 0 asks for both, the others for one.
class semaphore_scenario final : public sync_scenario {
public:
    using sync_scenario::sync_scenario;
    void run(std::size_t thread) override {
        const std::size_t count = thread == 0 ? 2 : 1;
        for (int i = 0; i < rounds_; ++i) {
            auto operation = permits_->acquire(count);
            if (!operation.wait(*boxes_[thread], may_stop_ && thread == 0)) {
                ++stopped_[thread];
                continue;
            }
            enter(static_cast<int>(count), 2);
            ++done_[thread];
            leave(static_cast<int>(count));
            permits_->release(count);
            forget(thread, i);
        }
    }

private:
    std::string final_verdict() override {
        return permits_->available() == 2 ? std::string() : "permits were lost, or made up";
    }
    undestroyed<basic_semaphore<model_domain>> permits_{2u};
};

// Thread 0 sets the event once for each other thread, and waits for the answer of each.
class event_scenario final : public sync_scenario {
public:
    using sync_scenario::sync_scenario;
    void run(std::size_t thread) override {
        if (thread == 0) {
            for (std::size_t i = 1; i < thread_count_; ++i) {
                event_->set();
                answer_->acquire().wait(*boxes_[0], false);
            }
            return;
        }
        while (!event_->wait().wait(*boxes_[thread], may_stop_ && stopped_[thread] == 0))
            ++stopped_[thread];
        ++done_[thread];
        answer_->release();
    }

private:
    undestroyed<basic_auto_reset_event<model_domain>> event_;
    undestroyed<basic_semaphore<model_domain>> answer_{0u};
};

// Thread 0 sets the event, which releases all others, and resets it when they have passed.
class manual_event_scenario final : public sync_scenario {
public:
    using sync_scenario::sync_scenario;
    void run(std::size_t thread) override {
        if (thread == 0) {
            event_->set();
            for (std::size_t i = 1; i < thread_count_; ++i)
                passed_->acquire().wait(*boxes_[0], false);
            event_->reset();
            return;
        }
        while (true) {
            auto wait = event_->wait();
            if (wait.wait(*boxes_[thread], may_stop_ && stopped_[thread] == 0)) break;
            if (wait.await_resume()) wrong_ = "a wait that was granted has been stopped";
            ++stopped_[thread];
        }
        ++done_[thread];
        passed_->release();
    }

private:
    std::string final_verdict() override {
        return event_->is_set() ? "the event is set after the reset" : "";
    }
    undestroyed<basic_manual_reset_event<model_domain>> event_;
    undestroyed<basic_semaphore<model_domain>> passed_{0u};
};

// Every thread counts down once and waits for the others.
class latch_scenario final : public sync_scenario {
public:
    latch_scenario(std::size_t thread_count, bool may_stop, int rounds)
        : sync_scenario(thread_count, may_stop, rounds), latch_(thread_count) {}
    void run(std::size_t thread) override {
        ++inside_;
        auto wait = latch_->arrive_and_wait();
        if (!wait.wait(*boxes_[thread], may_stop_ && thread != 0)) {
            if (wait.await_resume()) wrong_ = "a wait that was granted has been stopped";
            ++stopped_[thread];
            return;
        }
        if (inside_ != static_cast<int>(thread_count_)) wrong_ = "the latch has opened too early";
        ++done_[thread];
    }

private:
    std::string final_verdict() override {
        return latch_->is_open() ? std::string() : "the latch is closed after all have arrived";
    }
    undestroyed<basic_latch<model_domain>> latch_;
};

// Every thread arrives in each phase. One that is stopped has taken its arrival back, and arrives again.
class barrier_scenario final : public sync_scenario {
public:
    barrier_scenario(std::size_t thread_count, bool may_stop, int rounds)
        : sync_scenario(thread_count, may_stop, rounds), barrier_(thread_count) {}
    void run(std::size_t thread) override {
        for (int i = 0; i < rounds_; ++i) {
            while (true) {
                auto arrive = barrier_->arrive_and_wait();
                ++arrived_[thread];
                if (arrive.wait(*boxes_[thread], may_stop_ && thread == 1 && stopped_[1] == 0)) {
                    inside_ += *arrive.await_resume() ? 1 : 0;
                    break;
                }
                if (arrive.await_resume()) wrong_ = "an arrival that was granted has been stopped";
                --arrived_[thread];
                ++stopped_[thread];
            }
            ++done_[thread];
            for (std::size_t other = 0; other < thread_count_; ++other)
                if (arrived_[other] < done_[thread]) wrong_ = "a phase has ended too early";
            forget(thread, i + 8 * stopped_[thread]);
        }
    }
    std::uint64_t state() const override {
        std::uint64_t hash = sync_scenario::state();
        for (const int each : arrived_) hash = model::mixed(hash, static_cast<std::uint64_t>(each));
        return hash;
    }

private:
    std::string final_verdict() override {
        return inside_ == rounds_ ? std::string() : "a phase has not one last arrival";
    }
    std::array<int, thread_count_max> arrived_{};
    undestroyed<basic_barrier<model_domain>> barrier_;
};

// Thread 0 sends to the others by rendezvous, then closes. Each item is received once.
class channel_scenario final : public sync_scenario {
public:
    using sync_scenario::sync_scenario;
    void run(std::size_t thread) override {
        if (thread == 0) {
            for (int i = 0; i < rounds_; ++i) {
                auto send = channel_->send(1);
                if (send.wait(*boxes_[0], may_stop_)) ++done_[0];
                forget(0, i);
            }
            channel_->close();
            return;
        }
        while (true) {
            auto receive = channel_->receive();
            if (!receive.wait(*boxes_[thread], may_stop_ && stopped_[thread] == 0)) {
                ++stopped_[thread];
                continue;
            }
            const auto item = receive.await_resume();
            if (!item) return;
            ++done_[thread];
            forget(thread, done_[thread] + 8 * stopped_[thread]);
        }
    }

private:
    std::string final_verdict() override {
        int received = 0;
        for (std::size_t i = 1; i < thread_count_; ++i) received += done_[i];
        return received == done_[0] ? std::string() : "an item was lost, or received twice";
    }
    undestroyed<basic_channel<int, model_domain>> channel_{0u};
};

template <class Scenario>
model::coverage explore(std::size_t thread_count, bool may_stop, int rounds,
                        model::mutation mutation = {}) {
    model::limits limits;
    limits.switches_max = 3;
    limits.wakes_are_steps = thread_count == 2;  // more threads have too many states with it
    limits.runs_max = 300'000;
    auto found = std::make_unique<model::explorer>(limits, std::move(mutation));
    return found->explore(
        [&] { return std::make_unique<Scenario>(thread_count, may_stop, rounds); });
}

}  // namespace

TEMPLATE_TEST_CASE("a primitive between loops holds in every order", "[runtime][sync][model]",
                   mutex_scenario, shared_scenario, semaphore_scenario, event_scenario,
                   manual_event_scenario, latch_scenario, barrier_scenario, channel_scenario) {
    for (const bool may_stop : {false, true}) {
        for (const std::size_t threads : {2u, 3u}) {
            CAPTURE(may_stop, threads);
            const model::coverage covered = explore<TestType>(threads, may_stop, 2);
            CHECK(covered.failure == "");
            CHECK(covered.complete);
            CHECK(covered.ends > 0);
        }
    }
}

TEMPLATE_TEST_CASE("the explorer finds what is planted in a primitive", "[runtime][sync][model]",
                   mutex_scenario, shared_scenario, semaphore_scenario, event_scenario,
                   manual_event_scenario, latch_scenario, barrier_scenario, channel_scenario) {
    model::mutation silent;
    silent.wakes_no_thread = true;
    CHECK(explore<TestType>(3, false, 2, silent).failure != "");
    model::mutation unseen;
    unseen.sleeps_unseen = true;
    CHECK(explore<TestType>(3, false, 2, unseen).failure != "");
    stop_ignores_grant = true;
    const std::string lost = explore<TestType>(3, true, 2).failure;
    stop_ignores_grant = false;
    CHECK(lost != "");
}
