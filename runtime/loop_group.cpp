#include <kevring/runtime/loop_group.hpp>

#include <kevring/runtime/run.hpp>
#include <kevring/runtime/supervisor_scope.hpp>
#include <kevring/runtime/thread_mutex.hpp>

#include <atomic>
#include <exception>
#include <stdexcept>
#include <vector>

#include <sched.h>

namespace kevring {

struct loop_group::place {
    std::atomic<bool> is_member{false};
    std::atomic<std::uint64_t> started_count{0};
    std::atomic<std::uint64_t> ended_count{0};
    std::atomic<std::uint64_t> failed_count{0};
};

struct loop_group::shared_state {
    explicit shared_state(std::size_t count) : places(count), loops(count) {}

    std::vector<place> places;
    // Held while a task is posted: a loop that has not left exists.
    thread_mutex mutex;
    std::vector<ring*> loops KEVRING_GUARDED_BY(mutex);  // null: a free place
};

loop_group::loop_group(std::size_t loop_count_max)
    : loop_count_max_(loop_count_max), state_(std::make_unique<shared_state>(loop_count_max)) {}

loop_group::~loop_group() {
    // After a fork the loops are the parent's, and a thread that is not here may hold the mutex.
    if (detail::fork_generation() != fork_generation_) return;
    const thread_lock lock(state_->mutex);
    for (const ring* const loop : state_->loops)
        KEVRING_ASSERT(
            loop == nullptr,
            "loop_group destroyed while a loop is its member; end the memberships first");
}

loop_group::membership loop_group::join(ring& loop) {
    const thread_lock lock(state_->mutex);
    for (std::size_t i = 0; i < loop_count_max_; ++i) {
        if (state_->loops[i] != nullptr) continue;
        state_->loops[i] = &loop;
        // relaxed: as all counters, it orders nothing.
        state_->places[i].is_member.store(true, std::memory_order_relaxed);
        return {*this, i};
    }
    throw std::length_error(
        "kevring: loop_group::join() of more loops than the group was made for");
}

void loop_group::leave(std::size_t index) noexcept {
    if (detail::fork_generation() != fork_generation_) return;
    const thread_lock lock(state_->mutex);
    state_->loops[index] = nullptr;
    state_->places[index].is_member.store(false, std::memory_order_relaxed);
}

task<void> loop_group::run_counted(place& target, task<void> child) {
    try {
        co_await std::move(child);
    } catch (...) {
        print_task_failure({"task", "loop_group", std::current_exception()});
        target.failed_count.fetch_add(1, std::memory_order_relaxed);
    }
    {
        const task<void> ended = std::move(child);  // its connection is closed before it is counted
    }
    // release: pairs with the load in counters(), which reads the start of this task afterwards.
    target.ended_count.fetch_add(1, std::memory_order_release);
}

void loop_group::start_counted(ring& loop, place& target, task<void> child) {
    task<void> counted = run_counted(target, std::move(child));
    target.started_count.fetch_add(1, std::memory_order_relaxed);  // first: it may end at once
    try {
        kevring::spawn(loop, std::move(counted));
    } catch (...) {
        target.started_count.fetch_sub(1, std::memory_order_relaxed);
        throw;
    }
}

std::optional<std::size_t> loop_group::spawn(task<void> child) {
    const thread_lock lock(state_->mutex);
    std::optional<std::size_t> best;
    loop_group_counters best_counters;
    for (std::size_t i = 0; i < loop_count_max_; ++i) {
        if (state_->loops[i] == nullptr) continue;
        const loop_group_counters now = counters(i);
        if (best && (now.active_count() > best_counters.active_count() ||
                     (now.active_count() == best_counters.active_count() &&
                      now.started_count >= best_counters.started_count)))
            continue;
        best = i;
        best_counters = now;
    }
    if (!best) return best;
    start_counted(*state_->loops[*best], state_->places[*best], std::move(child));
    return best;
}

bool loop_group::spawn_on(std::size_t index, task<void> child) {
    KEVRING_ASSERT(index < loop_count_max_,
                   "loop_group has no such place; pass an index below loop_count_max()");
    const thread_lock lock(state_->mutex);
    if (state_->loops[index] == nullptr) return false;
    start_counted(*state_->loops[index], state_->places[index], std::move(child));
    return true;
}

loop_group_counters loop_group::counters(std::size_t index) const noexcept {
    KEVRING_ASSERT(index < loop_count_max_,
                   "loop_group has no such place; pass an index below loop_count_max()");
    const place& from = state_->places[index];
    loop_group_counters now;
    now.is_member = from.is_member.load(std::memory_order_relaxed);
    // first: a task that ends between the two loads must not make the number of active ones negative.
    now.ended_count = from.ended_count.load(std::memory_order_acquire);
    now.failed_count = from.failed_count.load(std::memory_order_relaxed);
    now.started_count = from.started_count.load(std::memory_order_relaxed);
    return now;
}

result<void> pin_thread(std::size_t index) noexcept {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return error_from_errno();
    index %= static_cast<std::size_t>(CPU_COUNT(&allowed));
    for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &allowed) || index-- != 0) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (::sched_setaffinity(0, sizeof one, &one) != 0) return error_from_errno();
        break;
    }
    return {};
}

}  // namespace kevring
