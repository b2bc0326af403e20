// shared_file.cpp: see shared_file.hpp.
#include <kevring/kevent/detail/shared_file.hpp>

#include <kevring/runtime/detail/process.hpp>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <new>
#include <type_traits>
#include <unordered_map>

#include <sys/socket.h>
#include <sys/stat.h>

namespace kevring::detail {

constinit thread_mutex shared_file_mutex;
static_assert(std::is_trivially_destructible_v<thread_mutex>);

struct shared_file {
    explicit shared_file(file_identity identity) noexcept : identity(identity) {}

    const file_identity identity;
    list_link entries KEVRING_GUARDED_BY(shared_file_mutex);
    std::atomic<std::size_t> count{0};  // written under the table's lock
};

namespace {

struct identity_hash {
    std::size_t operator()(const file_identity& file) const noexcept {
        return std::hash<std::uint64_t>()(file.number) * 31 + std::hash<dev_t>()(file.device);
    }
};

}  // namespace

struct shared_file_table {
    std::unordered_map<file_identity, shared_file, identity_hash> files
        KEVRING_GUARDED_BY(shared_file_mutex);

    // Never destroyed: queues may be, later than this would.
    static shared_file_table& get() noexcept {
        alignas(shared_file_table) static std::byte place[sizeof(shared_file_table)];
        static auto& only = *new (place) shared_file_table;
        static_cast<void>(fork_generation());  // disarms the entries of a child that no handler saw
        return only;
    }

    // The entries of a parent are notified of nothing in the child, and so consume nothing.
    // Clang does not follow a lock from before the fork.
    void after_fork_in_child(bool prepared) noexcept KEVRING_UNCHECKED_LOCKS {
        if (!prepared) new (&shared_file_mutex) thread_mutex;
        for (auto& [identity, file] : files)
            for (list_link* link = file.entries.next; link != &file.entries; link = link->next) {
                auto& entry = static_cast<shared_file_entry&>(*link);
                entry.armed_ = entry.owes_event_ = entry.owed_event_ = false;
            }
        if (prepared) shared_file_mutex.unlock();
    }

    // While the library is loaded: handlers that the program registers later run without the lock.
    [[gnu::constructor]] static void watch_forks() noexcept {
        add_fork_hooks({[]() KEVRING_UNCHECKED_LOCKS noexcept { shared_file_mutex.lock(); },
                        []() KEVRING_UNCHECKED_LOCKS noexcept { shared_file_mutex.unlock(); },
                        [](bool prepared) noexcept { get().after_fork_in_child(prepared); }});
    }
};

file_identity identify_file(fd_ref file, const struct stat& status) noexcept {
    file_identity identity{status.st_dev, status.st_ino};
    if (!S_ISSOCK(status.st_mode)) return identity;
    std::uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    const int caller_errno = errno;
    if (::getsockopt(file.number(), SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0)
        identity.number = cookie;
    errno = caller_errno;
    return identity;
}

void shared_file_entry::join(const file_identity& identity, ready_test is_ready,
                             std::uint32_t possible_bits) {
    shared_file_table& table = shared_file_table::get();
    const thread_lock held(shared_file_mutex);
    shared_file& file = table.files.try_emplace(identity, identity).first->second;
    insert_before(file.entries);
    file.count.fetch_add(1, std::memory_order_relaxed);
    file_ = &file;
    is_ready_ = is_ready;
    possible_bits_ = possible_bits;
}

void shared_file_entry::leave() noexcept {
    if (file_ == nullptr) return;
    shared_file_table& table = shared_file_table::get();
    const thread_lock held(shared_file_mutex);
    if (owes_event_ || owed_event_) {
        // Each of them is tested again; the oldest that is ready is notified.
        for (const list_link* link = next; link != &file_->entries; link = link->next) {
            const auto& younger = static_cast<const shared_file_entry&>(*link);
            if (younger.kept_silent_ && younger.armed_ && !younger.changing_)
                younger.host_.report_again(younger.watch_);
        }
    }
    unlink();
    if (file_->count.fetch_sub(1, std::memory_order_relaxed) == 1)
        table.files.erase(file_->identity);
    file_ = nullptr;
}

void shared_file_entry::set_armed(const fd_watch& watch, std::uint32_t event) noexcept {
    if (file_ == nullptr) return;
    const thread_lock held(shared_file_mutex);
    armed_ = true;
    changing_ = false;
    event_ = event;
    watch_ = watch;
}

void shared_file_entry::set_disarmed() noexcept {
    if (file_ == nullptr) return;
    const thread_lock held(shared_file_mutex);
    armed_ = changing_ = false;
    event_ = 0;
}

void shared_file_entry::restrict_mask(std::uint32_t event) noexcept {
    if (file_ == nullptr) return;
    const thread_lock held(shared_file_mutex);
    event_ &= event;
    changing_ = true;  // the change itself reports the bits that are set
}

bool shared_file_entry::is_shared() const noexcept {
    // relaxed: a concurrent join may be ordered before or after this load; both are correct.
    return file_ != nullptr && file_->count.load(std::memory_order_relaxed) > 1;
}

bool shared_file_entry::consumed_by_older(std::uint32_t poll_bits) noexcept {
    if (!is_shared()) return false;
    const thread_lock held(shared_file_mutex);
    // The kernel reports all bits that are set, not those that have changed. An older one that
    // wants a part of them may not have been notified.
    const std::uint32_t satisfied = is_ready_(event_, poll_bits);
    std::uint32_t left = satisfied;
    const auto consumed_by = [&](const shared_file_entry& older) {
        shared_file_mutex.assert_held();
        return older.armed_ ? older.is_ready_(older.event_, poll_bits & older.possible_bits_) : 0u;
    };
    for (list_link* link = previous; link != &file_->entries && left != 0; link = link->previous) {
        auto& older = static_cast<shared_file_entry&>(*link);
        if ((left & consumed_by(older)) == 0) continue;
        if (&older.host_ != &host_ && older.host_.is_abandoned()) {
            older.armed_ = false;  // for good: a closed queue collects nothing
            continue;
        }
        left &= ~consumed_by(older);
    }
    if (left != 0) return false;
    kept_silent_ = true;
    for (list_link* link = previous; link != &file_->entries; link = link->previous) {
        auto& older = static_cast<shared_file_entry&>(*link);
        if ((satisfied & consumed_by(older)) != 0) older.owes_event_ = true;
    }
    return true;
}

bool shared_file_entry::owes_event() const noexcept {
    if (!is_shared()) return false;
    const thread_lock held(shared_file_mutex);
    return owes_event_ || owed_event_;
}

bool shared_file_entry::suspend_debt() noexcept {
    if (!is_shared()) return false;
    const thread_lock held(shared_file_mutex);
    if (owes_event_) owed_event_ = true;
    owes_event_ = false;
    return owed_event_;
}

bool shared_file_entry::resume_debt(bool is_undelivered) noexcept {
    if (!is_shared()) return false;
    const thread_lock held(shared_file_mutex);
    if (!owed_event_) return false;
    owed_event_ = false;
    owes_event_ = owes_event_ || is_undelivered;
    return true;
}

void shared_file_entry::set_delivered() noexcept {
    if (!is_shared()) return;
    const thread_lock held(shared_file_mutex);
    owes_event_ = owed_event_ = kept_silent_ = false;  // its record reports all bits that are set
}

}  // namespace kevring::detail
