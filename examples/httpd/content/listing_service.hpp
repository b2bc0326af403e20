// listing_service.hpp: pages of directories, made in the background and shared by their readers.
#pragma once

#include "background_threads.hpp"
#include "completion_event.hpp"
#include "directory_reader.hpp"
#include "document_root.hpp"

#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/thread_mutex.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace httpd {

/// Bytes of all pages that are alive in the process.
///
/// Lifetime   Outlives the pages. `threads` frees large ones, which takes longer than a loop may
///            spend on it.
struct listing_budget {
    static constexpr std::size_t bytes_max = std::size_t{256} << 20;

    explicit listing_budget(background_threads& executor) : threads(executor) {}

    background_threads& threads;
    std::atomic<std::size_t> used_bytes{0};
};

enum class listing_format : std::uint8_t { html, json };

/// A page, or an error status: 403, 404, 500 or 503.
struct listing_page {
    unsigned status = 503;
    std::string text = {};
};

/// The pages of one root. Requests for one directory that wait together get one page; a page stays
/// shared while a response sends it and the directory is unchanged, for 20 times the time that it
/// took to make.
///
/// Lifetime   Outlives every get().
/// Thread     Any.
class listing_service {
public:
    explicit listing_service(directory_options options) : options_(options) {}

    /// Reads the directory `name` below `root` and renders it. `owner` keeps `root` and this object
    /// alive for the background thread.
    ///
    /// Result     Never null. 503 if too much is to be made or held already, or if the scope around
    ///            the await was stopped.
    kevring::task<std::shared_ptr<const listing_page>> get(kevring::ring& loop,
                                                           listing_budget& budget,
                                                           std::shared_ptr<const void> owner,
                                                           const document_root& root,
                                                           std::string name, listing_format format);

private:
    using key = std::pair<std::string, listing_format>;
    struct stamp {
        std::int64_t modified_ns = 0;
        std::int64_t changed_ns = 0;
        std::uint64_t inode = 0;
        friend bool operator==(const stamp&, const stamp&) noexcept = default;
    };
    // A page that is being made. Its members are guarded by mutex_.
    struct job {
        bool started = false;
        std::vector<std::shared_ptr<completion_event>> waiters;
        std::shared_ptr<const listing_page> page;  // set before the waiters are signalled
    };
    struct entry {
        std::shared_ptr<job> next;  // not started yet; null: none
        std::weak_ptr<const listing_page> page;
        stamp read_at;
        std::int64_t made_ns = 0;
        std::int64_t took_ns = 0;
    };

    static bool read_stamp(const document_root& root, const std::string& name,
                           stamp& target) noexcept;
    std::shared_ptr<const listing_page> find_fresh(const document_root& root, const key& which)
        KEVRING_REQUIRES(mutex_);
    std::shared_ptr<const listing_page> make(listing_budget& budget, const document_root& root,
                                             const key& which, entry& outcome) const;
    void run(listing_budget& budget, const document_root& root, const key& which,
             const std::shared_ptr<job>& self);
    static std::shared_ptr<const listing_page> store(listing_budget& budget, std::string text);

    const directory_options options_;
    kevring::thread_mutex mutex_;
    std::map<key, entry> entries_ KEVRING_GUARDED_BY(mutex_);
};

}  // namespace httpd
