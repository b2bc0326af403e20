// loop_group.hpp: loops that share tasks, and the choice of the one with the fewest.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

namespace kevring {

/// The tasks that a loop_group has given to one of its loops: a copy of the counters.
struct loop_group_counters {
    bool is_member = false;           // the loop has joined and not left
    std::uint64_t started_count = 0;  // given to the loop
    std::uint64_t ended_count = 0;
    std::uint64_t failed_count = 0;  // of those, by an exception

    std::uint64_t active_count() const noexcept { return started_count - ended_count; }
};

/// Loops of several threads that share work, such as connections that one of them accepts.
///
///     loop_group group(4);
///     run(4, [&](unsigned) -> task<> { ... });
///
///     // in the task of each loop
///     const auto member = group.join(*ring::current());
///     // in the task that accepts
///     auto detached = co_await client.detach();
///     if (detached) group.spawn(serve(std::move(*detached)));
///
/// Lifetime   Outlives the rings that have joined.
/// Thread     Any.
class loop_group {
public:
    /// A group of at most `loop_count_max` loops.
    explicit loop_group(std::size_t loop_count_max);
    loop_group(const loop_group&) = delete;
    loop_group& operator=(const loop_group&) = delete;
    ~loop_group();

    /// The membership of a loop; ends with this object. Tasks that were given before continue.
    ///
    /// Lifetime   Ends before the ring is destroyed.
    class [[nodiscard("a loop leaves the group when the object is destroyed")]] membership {
    public:
        membership(membership&& other) noexcept
            : group_(std::exchange(other.group_, nullptr)), index_(other.index_) {}
        membership& operator=(membership&&) = delete;
        ~membership() {
            if (group_ != nullptr) group_->leave(index_);
        }
        /// The place of the loop in the group, for counters() and spawn_on().
        std::size_t index() const noexcept { return index_; }

    private:
        friend class loop_group;
        membership(loop_group& group, std::size_t index) noexcept : group_(&group), index_(index) {}
        loop_group* group_;
        std::size_t index_;
    };

    /// Adds `loop` at the first free place.
    ///
    /// Errors     std::length_error when all places are taken.
    membership join(ring& loop);

    /// Starts `child` on the member with the fewest active tasks; among equals, on the one that has
    /// been given the fewest. An exception of the task is printed, as print_task_failure() does, and
    /// counted.
    ///
    /// Result     The place of the loop; nothing if the group has no member, and then `child` is
    ///            destroyed without having started.
    /// Errors     std::bad_alloc.
    std::optional<std::size_t> spawn(task<void> child);
    /// The same on a given member. False: no loop is at this place.
    bool spawn_on(std::size_t index, task<void> child);

    std::size_t loop_count_max() const noexcept { return loop_count_max_; }
    /// The counters of the place `index`, below loop_count_max(). They count on when a loop leaves and
    /// another joins.
    ///
    /// Thread     Any, without a lock.
    loop_group_counters counters(std::size_t index) const noexcept;

private:
    struct place;
    struct shared_state;

    void leave(std::size_t index) noexcept;
    static task<void> run_counted(place& target, task<void> child);
    static void start_counted(ring& loop, place& target, task<void> child);

    const std::size_t loop_count_max_;
    const std::unique_ptr<shared_state> state_;
    const unsigned fork_generation_ = detail::fork_generation();
};

/// Binds the calling thread to one of the processors that the process may use: the one at `index`,
/// modulo their number. For threads of run(thread_count, make), which passes an index.
///
/// Errors     Those of sched_setaffinity(2).
/// Thread     Any; it concerns the caller only.
result<void> pin_thread(std::size_t index) noexcept;

}  // namespace kevring
