// remote_model.cpp: the task that another loop stops and joins, in every order that its threads can have.
//
// The states are the library's own (runtime/detail/remote_states.hpp), over the lock and the mailboxes of
// tests/support/interleavings.hpp. Thread 0 is the loop of the task, thread 1 awaits its end, and the last
// one stops it. That the explorer finds mistakes is shown by planting them.
#include "tests/support/catch.hpp"
#include "tests/support/interleavings.hpp"
#include "tests/support/model_threads.hpp"

#include <kevring/runtime/detail/remote_states.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace {

using kevring::stop_cause;

// The thread of the task has posted the waiter, and still holds the mutex.
bool posted_under_lock = false;

struct KEVRING_CAPABILITY("mutex") model_mutex {
    model::atomic<std::uint32_t> word{0};
};
class KEVRING_SCOPED_CAPABILITY model_lock {
public:
    explicit model_lock(model_mutex& mutex) KEVRING_ACQUIRE(mutex) : mutex_(mutex) {
        std::uint32_t free = 0;
        while (!mutex_.word.compare_exchange_strong(free, 1, std::memory_order_acquire,
                                                    std::memory_order_relaxed)) {
            model::model_threads::sleep(mutex_.word, 1, kevring::detail::no_deadline);
            free = 0;
        }
    }
    model_lock(const model_lock&) = delete;
    model_lock& operator=(const model_lock&) = delete;
    ~model_lock() KEVRING_RELEASE() {
        mutex_.word.store(0, std::memory_order_release);
        posted_under_lock = false;
        model::model_threads::wake(mutex_.word, 1);
    }

private:
    model_mutex& mutex_;
};

struct model_item {};
struct model_loop {
    model::atomic<std::uint32_t> mailbox{0};
};
struct model_scope {
    bool stopped = false;
};
struct model_world {
    using mutex = model_mutex;
    using lock = model_lock;
    struct condition {};
    using loop = model_loop;
    using scope = model_scope;
    using item = model_item;

    static void post(model_loop& target, model_item&) {
        target.mailbox.store(1, std::memory_order_release);
        model::model_threads::wake(target.mailbox, 1);
    }
    static void post_expected(model_loop& waiting, model_item& waiter) {
        posted_under_lock = true;
        post(waiting, waiter);
    }
    static void notify(condition&) {}
};

void wait_for(model_loop& loop) {
    while (loop.mailbox.load(std::memory_order_acquire) == 0)
        model::model_threads::sleep(loop.mailbox, 0, kevring::detail::no_deadline);
    loop.mailbox.store(0, std::memory_order_relaxed);
}

// Mistakes that can be planted.
struct mistakes {
    bool early_stop_is_lost = false;  // a stop before begin() is not passed on
    bool joiner_skips_lock = false;   // the joiner does not wait for the thread that has posted
};

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

class remote_scenario final : public model::scenario {
public:
    // A task that waits ends by a stop only. One of the threads requests it: the joiner, as a stop of its
    // scope does, or another one.
    remote_scenario(bool task_waits, bool joiner_stops, bool other_stops, const mistakes& made)
        : task_waits_(task_waits),
          joiner_stops_(joiner_stops),
          other_stops_(other_stops),
          made_(made) {
        posted_under_lock = false;
    }

    std::size_t thread_count() const override { return 3; }
    void run(std::size_t thread) override {
        if (thread == 0)
            run_task();
        else if (thread == 1)
            join();
        else if (other_stops_)
            stop();
    }
    std::uint64_t state() const override {
        std::uint64_t hash = model::mixed(posted_under_lock ? 1 : 0, wrong_.size());
        for (const bool each : {scope_.stopped, task_ended_, joined_})
            hash = model::mixed(hash, each ? 1 : 2);
        return hash;
    }
    std::string verdict(const std::vector<bool>& asleep) override {
        if (!wrong_.empty()) return wrong_;
        if (asleep[0]) return "the task has not seen the stop";
        if (asleep[1]) return "the joiner was never resumed";
        return joined_ ? std::string() : "the joiner has not ended";
    }

private:
    void run_task() {
        const stop_cause early = states_->begin(scope_);
        if (early != stop_cause::none && !made_.early_stop_is_lost) scope_.stopped = true;
        while (task_waits_ && !scope_.stopped) {
            wait_for(*loops_[0]);
            stop_cause cause = stop_cause::none;
            model_scope* const scope = states_->stopped_scope(cause);
            if (scope == nullptr || cause != stop_cause::deadline)
                wrong_ = "a stop arrived without its scope or cause";
            else
                scope->stopped = true;
        }
        task_ended_ = true;
        states_->end();
        // A stop that was posted before the end arrives after it.
        if (loops_[0]->mailbox.load(std::memory_order_acquire) == 0) return;
        stop_cause cause = stop_cause::none;
        if (states_->stopped_scope(cause) != nullptr)
            wrong_ = "a stop reached a scope after its end";
    }
    void join() {
        const bool waits = states_->watch(*loops_[1], waiter_);
        if (joiner_stops_) stop();
        if (waits) wait_for(*loops_[1]);
        if (!made_.joiner_skips_lock && !states_->ended()) wrong_ = "joined before the end";
        if (posted_under_lock)
            wrong_ = "destroyed while the thread that has posted holds the mutex";
        if (!task_ended_) wrong_ = "joined while the task runs";
        joined_ = true;
    }
    void stop() {
        states_->request_stop(stop_cause::deadline, arrival_, [] {});
    }

    const bool task_waits_;
    const bool joiner_stops_;
    const bool other_stops_;
    const mistakes made_;
    std::array<undestroyed<model_loop>, 2> loops_;
    undestroyed<kevring::detail::remote_states<model_world>> states_{*loops_[0]};
    model_scope scope_;
    model_item waiter_;
    model_item arrival_;
    bool task_ended_ = false;
    bool joined_ = false;
    std::string wrong_;
};

model::coverage explore(bool task_waits, bool joiner_stops, bool other_stops,
                        const mistakes& made = {}, model::mutation mutation = {}) {
    model::limits limits;
    limits.switches_max = 3;
    limits.wakes_are_steps = true;
    auto found = std::make_unique<model::explorer>(limits, std::move(mutation));
    return found->explore([&] {
        return std::make_unique<remote_scenario>(task_waits, joiner_stops, other_stops, made);
    });
}

}  // namespace

TEST_CASE("a remote task is stopped and joined in every order", "[runtime][submit][model]") {
    for (const bool task_waits : {false, true}) {
        for (const auto& [joiner_stops, other_stops] :
             {std::pair{true, false}, std::pair{false, true}, std::pair{true, true}}) {
            CAPTURE(task_waits, joiner_stops, other_stops);
            const model::coverage covered = explore(task_waits, joiner_stops, other_stops);
            CHECK(covered.failure == "");
            CHECK(covered.complete);
            CHECK(covered.ends > 0);
        }
    }
}

TEST_CASE("the explorer finds what is planted in a remote task", "[runtime][submit][model]") {
    CHECK(explore(true, false, true, {.early_stop_is_lost = true}).failure ==
          "the task has not seen the stop");
    CHECK(explore(false, false, false, {.joiner_skips_lock = true}).failure ==
          "destroyed while the thread that has posted holds the mutex");
    model::mutation silent;
    silent.wakes_no_thread = true;
    CHECK(explore(true, true, false, {}, silent).failure != "");
    model::mutation unseen;
    unseen.sleeps_unseen = true;
    CHECK(explore(true, true, false, {}, unseen).failure != "");
}
