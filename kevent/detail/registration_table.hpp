// registration_table.hpp: the registrations of a queue, by type and id.
#pragma once

#include <kevring/kevent/detail/source.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace kevring::detail {

/// Owns them. The links of its chains are in the registrations: one costs a word here.
///
/// Thread     The one that holds the queue's lock.
class registration_table {
public:
    registration_table();
    registration_table(const registration_table&) = delete;
    registration_table& operator=(const registration_table&) = delete;
    ~registration_table();

    std::size_t size() const noexcept { return count_; }
    /// Null: there is none.
    registration* find(std::uint64_t id, std::uint32_t type) const noexcept;
    registration* find(const ukevent& key) const noexcept { return find(key.id.raw_u64, key.type); }
    /// Makes the next insert() one that cannot fail. Throws std::bad_alloc.
    void reserve_one() {
        if (count_ >= buckets_.size()) grow();
    }
    /// After reserve_one(); its key is not there yet.
    registration& insert(std::unique_ptr<registration> one) noexcept;
    void erase(registration& one) noexcept;
    template <class Visit>
    void for_each(Visit visit) const {
        for (const registration* entry : buckets_)
            for (; entry != nullptr; entry = entry->next_in_bucket) visit(*entry);
    }

private:
    registration*& bucket_of(std::uint64_t id, std::uint32_t type) noexcept;
    void grow();

    std::vector<registration*> buckets_;  // a power of two of them
    std::size_t count_ = 0;
};

}  // namespace kevring::detail
