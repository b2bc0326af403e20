// origin.cpp: see origin.hpp.
#include <kevring/kevent/detail/origin.hpp>

#include <atomic>
#include <cstddef>
#include <functional>
#include <mutex>
#include <unordered_map>

#include <pthread.h>

namespace kevring::detail {

struct origin_key {
    dev_t device;
    ino_t inode;
    friend bool operator==(const origin_key&, const origin_key&) = default;
};

struct origin {
    explicit origin(origin_key key) noexcept : key(key) {}

    const origin_key key;
    list_link members;
    std::atomic<std::size_t> count{0};  // written under the table's lock
};

namespace {

struct origin_hash {
    std::size_t operator()(const origin_key& key) const noexcept {
        return std::hash<ino_t>()(key.inode) * 31 + std::hash<dev_t>()(key.device);
    }
};

struct origin_table {
    std::mutex mutex;
    std::unordered_map<origin_key, origin, origin_hash> origins;
};

// Never destroyed: queues may be, later than this would.
origin_table& table() {
    static auto& only = *new origin_table;
    return only;
}

// When the library is loaded: handlers that the program registers later run outside of the lock,
// whatever they hold and call.
[[gnu::constructor]] void care_for_forks() {
    ::pthread_atfork([] { table().mutex.lock(); }, [] { table().mutex.unlock(); },
                     &origin_member::begin_child);
}

}  // namespace

// With the lock that was taken before the fork.
void origin_member::begin_child() noexcept {
    for (auto& [key, of] : table().origins)
        for (list_link* at = of.members.next; at != &of.members; at = at->next)
            static_cast<origin_member&>(*at).armed_ = false;
    table().mutex.unlock();
}

void origin_member::join(dev_t device, ino_t inode, ready_test is_ready,
                         std::uint32_t possible_bits) {
    origin_table& all = table();
    const std::lock_guard held(all.mutex);
    const origin_key key{device, inode};
    origin& of = all.origins.try_emplace(key, key).first->second;
    insert_before(of.members);
    of.count.fetch_add(1, std::memory_order_relaxed);
    of_ = &of;
    is_ready_ = is_ready;
    possible_bits_ = possible_bits;
}

void origin_member::leave() noexcept {
    if (of_ == nullptr) return;
    origin_table& all = table();
    const std::lock_guard held(all.mutex);
    unlink();
    if (of_->count.fetch_sub(1, std::memory_order_relaxed) == 1) all.origins.erase(of_->key);
    of_ = nullptr;
}

void origin_member::set_armed(bool armed, std::uint32_t event) noexcept {
    if (of_ == nullptr) return;
    const std::lock_guard held(table().mutex);
    armed_ = armed;
    event_ = event;
}

void origin_member::narrow(std::uint32_t event) noexcept {
    if (of_ == nullptr) return;
    const std::lock_guard held(table().mutex);
    event_ &= event;
}

bool origin_member::shares() const noexcept {
    // relaxed: who joins at this moment is younger or older by chance.
    return of_ != nullptr && of_->count.load(std::memory_order_relaxed) > 1;
}

bool origin_member::older_takes(std::uint32_t poll_bits) const noexcept {
    if (!shares()) return false;
    const std::lock_guard held(table().mutex);
    // The kernel tells of all that is true, and not what has become so: an older one that waits for
    // a part of it may not have been told.
    std::uint32_t left = is_ready_(event_, poll_bits);
    for (const list_link* at = previous; at != &of_->members && left != 0; at = at->previous) {
        const auto& older = static_cast<const origin_member&>(*at);
        if (older.armed_) left &= ~older.is_ready_(older.event_, poll_bits & older.possible_bits_);
    }
    return left == 0;
}

}  // namespace kevring::detail
