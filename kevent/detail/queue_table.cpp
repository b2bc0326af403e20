// queue_table.cpp: see queue_table.hpp.
#include <kevring/kevent/detail/queue_table.hpp>

#include <kevring/kevent/detail/control_identity.hpp>
#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/thread_mutex.hpp>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

namespace kevring::detail {
namespace {

// How soon the files that a closed queue holds are released, if no other call comes.
constexpr std::chrono::milliseconds sweep_interval{50};

constexpr std::size_t shard_count = 16;  // so that threads with a queue each seldom meet

struct entry {
    entry(close_detection how, std::shared_ptr<queue_core> queue) noexcept
        : how(how), queue(std::move(queue)) {}

    int number = -1;
    const close_detection how;
    const std::shared_ptr<queue_core> queue;
    std::unique_ptr<entry> next;
};

// A list of entries. No operation allocates.
class entry_list {
public:
    void push(std::unique_ptr<entry> one) noexcept {
        one->next = std::move(first_);
        first_ = std::move(one);
    }
    std::unique_ptr<entry>* find(int number) noexcept {
        return find_if([&](const entry& one) { return one.number == number; });
    }
    template <class Test>
    std::unique_ptr<entry>* find_if(Test test) noexcept {
        for (std::unique_ptr<entry>* slot = &first_; *slot != nullptr; slot = &(*slot)->next)
            if (test(**slot)) return slot;
        return nullptr;
    }
    static std::unique_ptr<entry> remove(std::unique_ptr<entry>* slot) noexcept {
        std::unique_ptr<entry> removed = std::move(*slot);
        *slot = std::move(removed->next);
        return removed;
    }
    /// Moves the entries that pass `test` to `target`.
    template <class Test>
    void move_if(Test test, entry_list& target) noexcept {
        std::unique_ptr<entry>* slot = &first_;
        while (*slot != nullptr) {
            if (test(**slot))
                target.push(remove(slot));
            else
                slot = &(*slot)->next;
        }
    }
    ~entry_list() {
        while (first_ != nullptr) remove(&first_);  // not by recursion
    }

private:
    std::unique_ptr<entry> first_;
};

struct shard {
    thread_mutex mutex;
    entry_list entries KEVRING_GUARDED_BY(mutex);
    unsigned by_call_count KEVRING_GUARDED_BY(mutex) = 0;  // of the entries
};

class queue_table {
public:
    // Never destroyed: threads may make calls until the process ends.
    static queue_table& get() noexcept {
        alignas(queue_table) static std::byte place[sizeof(queue_table)];
        static auto& only = *new (place) queue_table;
        static_cast<void>(fork_generation());  // empties the table of a child that no handler saw
        return only;
    }

    queue_ref find(int number, identification how) noexcept {
        std::unique_ptr<entry> dropped;  // destroyed last, without the lock
        shard& part = shard_of(number);
        const thread_lock held(part.mutex);
        std::unique_ptr<entry>* const slot = part.entries.find(number);
        if (slot == nullptr) return {nullptr, ::fcntl(number, F_GETFD) < 0 ? -EBADF : -EINVAL};
        const std::shared_ptr<queue_core>& queue = (*slot)->queue;
        if (how != identification::by_lookup && queue->identifies_control())
            return {queue, 0, false};
        if (how == identification::by_queue_only) return {};
        const control_identity found = identify_control(number, queue->control());
        if (found == control_identity::same) return {queue, 0};
        // The child of vfork() shares the table, and may have closed the descriptor for itself.
        if (!runs_in_own_process()) return {nullptr, -EBADF};
        dropped = remove(part, slot);
        return {nullptr, found == control_identity::closed ? -EBADF : -EINVAL};
    }

    int close(int number) noexcept {
        std::unique_ptr<entry> dropped;
        {
            shard& part = shard_of(number);
            const thread_lock held(part.mutex);
            std::unique_ptr<entry>* const slot = part.entries.find(number);
            if (slot == nullptr) return ::fcntl(number, F_GETFD) < 0 ? -EBADF : -EINVAL;
            const control_identity found = identify_control(number, (*slot)->queue->control());
            dropped = remove(part, slot);
            if (found == control_identity::closed) return -EBADF;
            if (found == control_identity::other) return -EINVAL;
            ::close(number);
        }
        // A thread in a call keeps the queue itself.
        dropped->queue->close();
        return 0;
    }

    int insert(std::shared_ptr<queue_core> queue, close_detection how) {
        auto made = std::make_unique<entry>(how, std::move(queue));  // first: it may throw
        const int number = made->queue->release_control();
        if (number < 0) return number;
        made->number = number;
        std::unique_ptr<entry> dropped;
        {
            shard& part = shard_of(number);
            const thread_lock held(part.mutex);
            // The queue of that number was closed, or the kernel would not have given it away.
            if (std::unique_ptr<entry>* const slot = part.entries.find(number))
                dropped = remove(part, slot);
            part.entries.push(std::move(made));
            if (how == close_detection::by_call) {
                ++part.by_call_count;
                by_call_count_.fetch_add(1, std::memory_order_relaxed);
            }
        }
        dropped.reset();
        if (how == close_detection::by_thread) {
            start_sweeping();
        } else {
            sweep();
        }
        return number;
    }

    void check_next() noexcept {
        if (by_call_count_.load(std::memory_order_relaxed) < 2) return;
        const unsigned place = next_checked_.fetch_add(1, std::memory_order_relaxed);
        shard& part = shards_[place % shard_count];
        std::unique_ptr<entry> dropped;
        const thread_lock held(part.mutex);
        if (part.by_call_count == 0) return;
        unsigned skip_count = place / shard_count % part.by_call_count;
        std::unique_ptr<entry>* const slot = part.entries.find_if([&](const entry& one) {
            return one.how == close_detection::by_call && skip_count-- == 0;
        });
        if (slot != nullptr && is_closed(**slot)) dropped = remove(part, slot);
    }

private:
    shard& shard_of(int number) noexcept {
        return shards_[static_cast<unsigned>(number) % shard_count];
    }

    std::unique_ptr<entry> remove(shard& part, std::unique_ptr<entry>* slot) noexcept
        KEVRING_REQUIRES(part.mutex) {
        uncount(part, **slot);
        return entry_list::remove(slot);
    }
    void uncount(shard& part, const entry& one) noexcept KEVRING_REQUIRES(part.mutex) {
        if (one.how != close_detection::by_call) return;
        --part.by_call_count;
        by_call_count_.fetch_sub(1, std::memory_order_relaxed);
    }

    static bool is_closed(const entry& one) noexcept {
        return identify_control(one.number, one.queue->control()) != control_identity::same;
    }

    // Drops the queues that are closed; true if one is left that the thread has to look after.
    // Allocates nothing: an exception would end the process of the thread that runs it.
    bool sweep() noexcept {
        bool any_left = false;
        for (shard& part : shards_) {
            entry_list dropped;  // destroyed after the lock is released
            const thread_lock held(part.mutex);
            const auto counts_as_closed = [&](const entry& one) {
                part.mutex.assert_held();
                const bool closed = is_closed(one);
                if (closed) uncount(part, one);
                if (!closed) any_left |= one.how == close_detection::by_thread;
                return closed;
            };
            part.entries.move_if(counts_as_closed, dropped);
        }
        return any_left;
    }

    // The thread lives as long as there are queues that want it. Without it (a process may be
    // forbidden to make threads) files are released by the next lookup of the number.
    void start_sweeping() noexcept {
        const thread_lock held(sweeper_mutex_);
        ++inserted_;
        if (sweeping_) return;
        sigset_t all;
        sigset_t before;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the program's threads
        pthread_t thread;
        sweeping_ = ::pthread_create(&thread, nullptr, &queue_table::sweep_always, this) == 0;
        if (sweeping_) ::pthread_detach(thread);
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    static void* sweep_always(void* table) {
        ::pthread_setname_np(::pthread_self(), "kevring-sweep");
        auto& self = *static_cast<queue_table*>(table);
        thread_lock held(self.sweeper_mutex_);
        for (;;) {
            self.wake_.wait_for(held, sweep_interval);
            const unsigned inserted = self.inserted_;
            held.unlock();
            const bool any_left = self.sweep();
            held.lock();
            if (!any_left && inserted == self.inserted_) break;
        }
        self.sweeping_ = false;
        return nullptr;
    }

    // Forks. The entries of the parent are kept, and never used again: their objects may be in any
    // state, and what they own in the kernel is the parent's.

    [[gnu::constructor]] static void watch_forks() noexcept {
        add_fork_hooks({[]() noexcept { get().lock_all(); }, []() noexcept { get().unlock_all(); },
                        [](bool prepared) noexcept { get().after_fork_in_child(prepared); }});
    }
    // Clang cannot follow the locks of an array.
    void lock_all() noexcept KEVRING_UNCHECKED_LOCKS {
        for (shard& part : shards_) part.mutex.lock();
        sweeper_mutex_.lock();
    }
    void unlock_all() noexcept KEVRING_UNCHECKED_LOCKS {
        sweeper_mutex_.unlock();
        for (shard& part : shards_) part.mutex.unlock();
    }
    void after_fork_in_child(bool prepared) noexcept KEVRING_UNCHECKED_LOCKS {  // as above
        if (prepared) {
            unlock_all();
        } else {
            for (shard& part : shards_) new (&part.mutex) thread_mutex;
            new (&sweeper_mutex_) thread_mutex;
        }
        new (&wake_) thread_condition;  // the thread of the parent waits on the old one
        for (shard& part : shards_) {
            part.entries.move_if([](const entry&) { return true; }, inherited_);
            part.by_call_count = 0;
        }
        by_call_count_.store(0, std::memory_order_relaxed);
        sweeping_ = false;
    }

    std::array<shard, shard_count> shards_;
    std::atomic<unsigned> by_call_count_{0};  // of all shards
    std::atomic<unsigned> next_checked_{0};
    thread_mutex sweeper_mutex_;
    thread_condition wake_;
    bool sweeping_ KEVRING_GUARDED_BY(sweeper_mutex_) = false;
    unsigned inserted_ KEVRING_GUARDED_BY(sweeper_mutex_) = 0;
    entry_list inherited_;
};

}  // namespace

queue_ref find_queue(int number, identification how) noexcept {
    return queue_table::get().find(number, how);
}

int insert_queue(std::shared_ptr<queue_core> queue, close_detection how) {
    return queue_table::get().insert(std::move(queue), how);
}

int close_queue(int number) noexcept { return queue_table::get().close(number); }

void check_next_queue() noexcept { queue_table::get().check_next(); }

}  // namespace kevring::detail
