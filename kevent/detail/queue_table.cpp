// queue_table.cpp: see queue_table.hpp.
#include <kevring/kevent/detail/queue_table.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

namespace kevring::detail {
namespace {

// A queue's file bears this flag, which means nothing to an epoll set and which nobody sets on
// other files that are open for reading and writing and were not opened by name. With it, one
// fcntl() tells a closed number, a stranger, and O_NONBLOCK.
constexpr int mark = O_APPEND;
constexpr int marked_flags = O_RDWR | mark;

// How soon the files that a closed queue holds are released, if no other call comes.
constexpr std::chrono::milliseconds sweep_interval{50};

constexpr std::size_t shard_count = 16;  // so that threads with a queue each seldom meet

struct entry {
    int number;
    close_is_found how;
    std::shared_ptr<queue_core> queue;
};

struct shard {
    std::mutex mutex;
    std::vector<entry> entries;
};

enum class identity { closed, stranger, ours };

struct number_state {
    identity is = identity::closed;
    int flags = 0;
};

// Whether `number` means the file of `queue`. Flags belong to the file, not to the number: where
// the mark is missing (a program may have set flags without asking for those before), it is set
// through the queue's own descriptor, and seen through the number or not.
number_state examine(int number, queue_core& queue) noexcept {
    const int flags = ::fcntl(number, F_GETFL);
    if (flags < 0) return {identity::closed, 0};
    if ((flags & ~O_NONBLOCK) == marked_flags) return {identity::ours, flags};

    const int own = queue.control().number();
    const int own_flags = ::fcntl(own, F_GETFL);
    if (own_flags < 0 || (own_flags & mark) != 0) return {identity::stranger, flags};
    ::fcntl(own, F_SETFL, own_flags | mark);
    const int seen = ::fcntl(number, F_GETFL);
    const bool same = seen >= 0 && (seen & mark) != 0 && (flags & mark) == 0;
    return {same ? identity::ours : identity::stranger, flags};
}

class queue_table {
public:
    // Never destroyed: threads may make calls until the process is gone.
    static queue_table& get() noexcept { return *current().load(std::memory_order_acquire); }

    found_queue find(int number) {
        std::shared_ptr<queue_core> dropped;  // destroyed last, without the lock
        shard& in = shard_of(number);
        const std::lock_guard held(in.mutex);
        const auto at = std::find_if(in.entries.begin(), in.entries.end(),
                                     [&](const entry& e) { return e.number == number; });
        if (at == in.entries.end())
            return {nullptr, false, ::fcntl(number, F_GETFL) < 0 ? -EBADF : -EINVAL};
        const number_state state = examine(number, *at->queue);
        if (state.is == identity::ours) return {at->queue, (state.flags & O_NONBLOCK) != 0, 0};
        dropped = take(in, at);
        return {nullptr, false, state.is == identity::closed ? -EBADF : -EINVAL};
    }

    int enter(std::shared_ptr<queue_core> queue, close_is_found how) {
        const int number = queue->release_control();
        if (number < 0) return number;
        ::fcntl(number, F_SETFL, mark);
        std::shared_ptr<queue_core> dropped;
        {
            shard& in = shard_of(number);
            const std::lock_guard held(in.mutex);
            const auto at = std::find_if(in.entries.begin(), in.entries.end(),
                                         [&](const entry& e) { return e.number == number; });
            if (at != in.entries.end()) {
                // The queue of that number was closed, or the kernel would not have given it away.
                dropped = std::exchange(at->queue, std::move(queue));
                at->how = how;
            } else {
                in.entries.push_back({number, how, std::move(queue)});
            }
        }
        if (how == close_is_found::by_a_thread) {
            start_sweeping();
        } else {
            sweep();
        }
        return number;
    }

private:
    static std::atomic<queue_table*>& current() noexcept {
        static std::atomic<queue_table*> table = [] {
            // The locks of a parent may be held for ever in the child; it starts anew.
            ::pthread_atfork(nullptr, nullptr, +[] { current().store(new queue_table); });
            return new queue_table;
        }();
        return table;
    }

    shard& shard_of(int number) noexcept {
        return shards_[static_cast<unsigned>(number) % shard_count];
    }

    static std::shared_ptr<queue_core> take(shard& in, std::vector<entry>::iterator at) {
        std::shared_ptr<queue_core> taken = std::move(at->queue);
        *at = std::move(in.entries.back());
        in.entries.pop_back();
        return taken;
    }

    // Drops the queues that are closed; true if any is left that a thread has to look after.
    bool sweep() {
        bool any_left = false;
        for (shard& in : shards_) {
            std::vector<std::shared_ptr<queue_core>> dropped;
            const std::lock_guard held(in.mutex);
            for (std::size_t i = in.entries.size(); i-- != 0;) {
                const entry& one = in.entries[i];
                if (examine(one.number, *one.queue).is != identity::ours)
                    dropped.push_back(
                        take(in, in.entries.begin() + static_cast<std::ptrdiff_t>(i)));
            }
            any_left |= std::ranges::find(in.entries, close_is_found::by_a_thread, &entry::how) !=
                        in.entries.end();
        }
        return any_left;
    }

    // The thread lives as long as there are queues that want it. Without it (a process may be
    // forbidden to make threads) files are released by the next look-up of the number.
    void start_sweeping() noexcept {
        const std::lock_guard held(sweeper_mutex_);
        ++entered_;
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
        std::unique_lock held(self.sweeper_mutex_);
        for (;;) {
            self.wake_.wait_for(held, sweep_interval);
            const unsigned entered = self.entered_;
            held.unlock();
            const bool any_left = self.sweep();
            held.lock();
            if (!any_left && entered == self.entered_) break;
        }
        self.sweeping_ = false;
        return nullptr;
    }

    std::array<shard, shard_count> shards_;
    std::mutex sweeper_mutex_;
    std::condition_variable wake_;
    bool sweeping_ = false;
    unsigned entered_ = 0;
};

}  // namespace

found_queue find_queue(int number) { return queue_table::get().find(number); }

int enter_queue(std::shared_ptr<queue_core> queue, close_is_found how) {
    return queue_table::get().enter(std::move(queue), how);
}

}  // namespace kevring::detail
