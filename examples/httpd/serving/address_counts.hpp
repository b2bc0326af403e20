// address_counts.hpp: the open connections of each client address.
#pragma once

#include "examples/httpd/http/network.hpp"

#include <kevring/runtime/thread_mutex.hpp>

#include <map>

namespace httpd {

/// Thread     Any.
class address_counts {
public:
    /// Counts a connection, unless the address has `limit` already.
    bool add(const ip_address& address, unsigned limit) {
        const kevring::thread_lock lock(mutex_);
        unsigned& count = counts_[address];
        if (count >= limit) return false;
        ++count;
        return true;
    }
    void remove(const ip_address& address) noexcept {
        const kevring::thread_lock lock(mutex_);
        const auto found = counts_.find(address);
        if (found != counts_.end() && --found->second == 0) counts_.erase(found);
    }

    /// Removes a counted connection at its end.
    class holder {
    public:
        holder(address_counts& counts, const ip_address& address)
            : counts_(counts), address_(address) {}
        holder(const holder&) = delete;
        holder& operator=(const holder&) = delete;
        ~holder() { counts_.remove(address_); }

    private:
        address_counts& counts_;
        const ip_address address_;
    };

private:
    kevring::thread_mutex mutex_;
    std::map<ip_address, unsigned> counts_ KEVRING_GUARDED_BY(mutex_);
};

}  // namespace httpd
