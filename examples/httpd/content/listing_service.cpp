#include "listing_service.hpp"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <exception>
#include <new>
#include <system_error>

#include <sys/stat.h>

namespace httpd {
namespace {

constexpr std::size_t entry_count_max = 256;  // directories whose pages are made or shared
constexpr std::int64_t share_factor = 20;     // of the time that a page took
constexpr std::size_t freed_by_loop_bytes_max = std::size_t{1} << 20;

std::int64_t clock_ns(clockid_t clock) noexcept {
    timespec now{};
    ::clock_gettime(clock, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

unsigned status_of(const std::error_code& error) noexcept {
    switch (error.value()) {
        case ENOENT:
        case ENOTDIR:
        case ELOOP:
        case EXDEV: return 404;
        case EACCES:
        case EPERM: return 403;
        case EMFILE:
        case ENFILE:
        case ENOMEM:
        case ECANCELED: return 503;
        default: return 500;
    }
}

std::shared_ptr<const listing_page> error_page(unsigned status) {
    return std::make_shared<const listing_page>(listing_page{.status = status});
}

}  // namespace

bool listing_service::read_stamp(const document_root& root, const std::string& name,
                                 stamp& target) noexcept {
    struct stat status{};
    if (::fstatat(root.root().number(), name.c_str(), &status, 0) != 0) return false;
    target.modified_ns =
        std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
    target.changed_ns =
        std::int64_t{status.st_ctim.tv_sec} * 1'000'000'000 + status.st_ctim.tv_nsec;
    target.inode = status.st_ino;
    return true;
}

std::shared_ptr<const listing_page> listing_service::find_fresh(const document_root& root,
                                                                const key& which) {
    const auto found = entries_.find(which);
    if (found == entries_.end()) return nullptr;
    const entry& known = found->second;
    auto page = known.page.lock();
    if (!page || clock_ns(CLOCK_MONOTONIC) - known.made_ns > share_factor * known.took_ns)
        return nullptr;
    stamp now;
    return read_stamp(root, which.first, now) && now == known.read_at ? page : nullptr;
}

kevring::task<std::shared_ptr<const listing_page>> listing_service::get(
    kevring::ring& loop, listing_budget& budget, std::shared_ptr<const void> owner,
    const document_root& root, std::string name, listing_format format) {
    const key which(std::move(name), format);
    const auto done = std::make_shared<completion_event>();
    std::shared_ptr<job> joined;
    bool is_new = false;
    {
        const kevring::thread_lock lock(mutex_);
        if (auto page = find_fresh(root, which)) co_return page;
        std::erase_if(entries_, [](const auto& each) {
            return each.second.next == nullptr && each.second.page.expired();
        });
        if (!done->valid() || (!entries_.contains(which) && entries_.size() >= entry_count_max))
            co_return error_page(503);
        entry& own = entries_[which];
        is_new = own.next == nullptr;
        if (is_new) own.next = std::make_shared<job>();
        joined = own.next;
        joined->waiters.push_back(done);
    }
    if (is_new) {
        const std::function<void()> work = [this, &budget, owner, &root, which, joined] {
            run(budget, root, which, joined);
        };
        if (!budget.threads.run(work)) {
            const kevring::thread_lock lock(mutex_);
            joined->page = error_page(503);
            if (const auto own = entries_.find(which);
                own != entries_.end() && own->second.next == joined)
                own->second.next.reset();
            for (const auto& each : joined->waiters) each->signal();
            co_return joined->page;
        }
    }
    const bool ended = co_await done->wait(loop);
    if (!ended) co_return error_page(503);
    const kevring::thread_lock lock(mutex_);
    co_return joined->page;
}

// On a background thread.
void listing_service::run(listing_budget& budget, const document_root& root, const key& which,
                          const std::shared_ptr<job>& self) {
    entry outcome;
    std::shared_ptr<const listing_page> page;
    {
        const kevring::thread_lock lock(mutex_);
        if (entry& own = entries_[which]; own.next == self) own.next.reset();
        page = find_fresh(root, which);  // another job was faster
    }
    if (!page) {
        try {
            page = make(budget, root, which, outcome);
        } catch (const std::exception&) {
            page = error_page(503);  // no memory
        }
    }
    const kevring::thread_lock lock(mutex_);
    if (outcome.took_ns != 0) {
        entry& own = entries_[which];
        own.page = page;
        own.read_at = outcome.read_at;
        own.made_ns = outcome.made_ns;
        own.took_ns = outcome.took_ns;
    }
    self->page = std::move(page);
    for (const auto& each : self->waiters) each->signal();
}

std::shared_ptr<const listing_page> listing_service::make(listing_budget& budget,
                                                          const document_root& root,
                                                          const key& which, entry& outcome) const {
    const std::int64_t began_ns = clock_ns(CLOCK_MONOTONIC);
    if (budget.used_bytes.load(std::memory_order_relaxed) >= listing_budget::bytes_max)
        return error_page(503);
    const bool stamped = read_stamp(root, which.first, outcome.read_at);
    // A directory that changed within the granularity of its clock may change again unseen.
    const bool settled = clock_ns(CLOCK_REALTIME_COARSE) - outcome.read_at.changed_ns > 20'000'000;
    const auto contents = read_directory(root.root(), which.first, options_,
                                         [&budget] { return budget.threads.stopping(); });
    if (!contents) return error_page(status_of(contents.error()));
    auto page = store(budget, which.second == listing_format::json
                                  ? render_directory_json(which.first, *contents)
                                  : render_directory_listing(which.first, *contents));
    if (!stamped || !settled || page->status != 200) return page;
    outcome.made_ns = clock_ns(CLOCK_MONOTONIC);
    outcome.took_ns = std::max<std::int64_t>(1, outcome.made_ns - began_ns);
    return page;
}

std::shared_ptr<const listing_page> listing_service::store(listing_budget& budget,
                                                           std::string text) {
    text.shrink_to_fit();
    const std::size_t bytes = text.capacity();
    if (budget.used_bytes.fetch_add(bytes, std::memory_order_relaxed) + bytes >
        listing_budget::bytes_max) {
        budget.used_bytes.fetch_sub(bytes, std::memory_order_relaxed);
        return error_page(503);
    }
    const auto discard = [&budget, bytes](const listing_page* page) {
        budget.used_bytes.fetch_sub(bytes, std::memory_order_relaxed);
        std::shared_ptr<const listing_page> held(page);
        if (bytes > freed_by_loop_bytes_max) budget.threads.run([last = std::move(held)] {});
    };
    return {new listing_page{.status = 200, .text = std::move(text)}, discard};
}

}  // namespace httpd
