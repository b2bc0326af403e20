// registration_table.cpp: see registration_table.hpp.
#include <kevring/kevent/detail/registration_table.hpp>

#include <kevring/runtime/assert.hpp>

#include <utility>

namespace kevring::detail {
namespace {

constexpr std::size_t bucket_count_min = 16;

std::size_t hash_of(std::uint64_t id, std::uint32_t type) noexcept {
    std::uint64_t mixed = (id + type * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;
    mixed ^= mixed >> 32;
    mixed *= 0xc4ceb9fe1a85ec53ull;
    return static_cast<std::size_t>(mixed ^ (mixed >> 29));
}

}  // namespace

registration_table::registration_table() : buckets_(bucket_count_min, nullptr) {}

registration_table::~registration_table() {
    for (registration* first : buckets_) {
        while (first != nullptr) {
            registration* const next = first->next_in_bucket;
            first->unlink();
            delete first;  // and its source, which ends its watching
            first = next;
        }
    }
}

registration*& registration_table::bucket_of(std::uint64_t id, std::uint32_t type) noexcept {
    return buckets_[hash_of(id, type) & (buckets_.size() - 1)];
}

registration* registration_table::find(std::uint64_t id, std::uint32_t type) const noexcept {
    registration* entry = buckets_[hash_of(id, type) & (buckets_.size() - 1)];
    while (entry != nullptr && (entry->record.id.raw_u64 != id || entry->record.type != type))
        entry = entry->next_in_bucket;
    return entry;
}

registration& registration_table::insert(std::unique_ptr<registration> one) noexcept {
    registration*& head = bucket_of(one->record.id.raw_u64, one->record.type);
    one->next_in_bucket = head;
    head = one.release();
    ++count_;
    return *head;
}

void registration_table::grow() {
    std::vector<registration*> old(buckets_.size() * 2, nullptr);
    old.swap(buckets_);
    for (registration* first : old) {
        while (first != nullptr) {
            registration* const next = first->next_in_bucket;
            registration*& head = bucket_of(first->record.id.raw_u64, first->record.type);
            first->next_in_bucket = head;
            head = first;
            first = next;
        }
    }
}

void registration_table::erase(registration& one) noexcept {
    registration** place = &bucket_of(one.record.id.raw_u64, one.record.type);
    while (*place != nullptr && *place != &one) place = &(*place)->next_in_bucket;
    KEVRING_ASSERT(*place == &one,
                   "internal error: a registration is not in its table; report it with the call "
                   "that led to it");
    *place = one.next_in_bucket;
    --count_;
    one.unlink();
    delete &one;
}

}  // namespace kevring::detail
