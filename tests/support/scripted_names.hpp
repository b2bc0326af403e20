// scripted_names.hpp: a source of addresses for resolvers under test, which reaches no network.
#pragma once

#include <kevring/net/endpoint.hpp>
#include <kevring/net/resolve.hpp>

#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include <netdb.h>

class scripted_names final : public kevring::name_service {
public:
    /// The addresses of a name, without ports; the service is read as a number.
    void set(const std::string& host, std::vector<std::string> addresses) {
        const std::lock_guard lock(mutex_);
        answers_[host] = {0, 0, std::move(addresses)};
    }
    /// An EAI_ number, and an errno for EAI_SYSTEM.
    void fail(const std::string& host, int error, int system_error = 0) {
        const std::lock_guard lock(mutex_);
        answers_[host] = {error, system_error, {}};
    }
    /// Lookups of this name throw std::bad_alloc.
    void exhaust_memory(const std::string& host) { fail(host, out_of_memory); }
    /// Lookups block until release().
    void hold() {
        const std::lock_guard lock(mutex_);
        held_ = true;
    }
    void release() {
        const std::lock_guard lock(mutex_);
        held_ = false;
        changed_.notify_all();
    }
    /// Waits until this number of lookups has begun, on any threads.
    void wait_until_begun(unsigned count) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return begun_count_ >= count; });
    }
    unsigned begun_count() {
        const std::lock_guard lock(mutex_);
        return begun_count_;
    }
    void advance(std::int64_t ns) {
        const std::lock_guard lock(mutex_);
        now_ns_ += ns;
    }

    // EAI_NONAME for a name that was not set.
    int look_up(const char* host, const char* service,
                std::vector<kevring::endpoint>& addresses) override {
        std::unique_lock lock(mutex_);
        ++begun_count_;
        changed_.notify_all();
        changed_.wait(lock, [&] { return !held_; });
        const auto found = answers_.find(host);
        if (found == answers_.end()) return EAI_NONAME;
        const answer& scripted = found->second;
        if (scripted.error == out_of_memory) throw std::bad_alloc();
        errno = scripted.system_error;
        if (scripted.error != 0) return scripted.error;
        for (const std::string& each : scripted.addresses) {
            auto address = kevring::endpoint::parse(each + ":0").value();
            address.set_port(static_cast<std::uint16_t>(std::atoi(service)));
            addresses.push_back(address);
        }
        return 0;
    }
    std::int64_t steady_ns() noexcept override {
        const std::lock_guard lock(mutex_);
        return now_ns_;
    }

private:
    static constexpr int out_of_memory = 1;  // the numbers of getaddrinfo(3) are negative
    struct answer {
        int error = 0;
        int system_error = 0;
        std::vector<std::string> addresses;
    };

    std::mutex mutex_;
    std::condition_variable changed_;
    // Guarded by mutex_.
    std::map<std::string, answer> answers_;
    bool held_ = false;
    unsigned begun_count_ = 0;
    std::int64_t now_ns_ = 1'000'000'000;
};
