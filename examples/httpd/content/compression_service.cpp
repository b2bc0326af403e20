#include "compression_service.hpp"

#include "compressor.hpp"
#include "document_root.hpp"

#include <exception>
#include <iterator>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace httpd {
namespace {

// An entry for a file that compression does not make smaller costs this much.
constexpr std::uint64_t entry_bytes = 256;

std::int64_t ns_of(const timespec& time) noexcept {
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

kevring::task<std::shared_ptr<const compressed_content>> compression_service::get(
    kevring::ring& loop, const open_file& file, content_coding coding, std::size_t bytes_max) {
    const key which(file.device, file.inode, file.modified_ns, file.changed_ns, file.byte_count,
                    coding);
    const auto done = std::make_shared<completion_event>();
    std::shared_ptr<job> joined;
    bool is_new = false;
    {
        const kevring::thread_lock lock(mutex_);
        if (const auto found = made_.find(which); found != made_.end()) co_return found->second;
        auto& own = waiting_[which];
        if (!own && (waiting_.size() > waiting_count_max || !done->valid())) {
            waiting_.erase(which);
            co_return nullptr;
        }
        is_new = !own;
        if (is_new) own = std::make_shared<job>();
        joined = own;
        joined->waiters.push_back(done);
    }
    if (is_new) {
        // The loop may close its own descriptor in the meantime.
        const auto source = std::make_shared<const kevring::fd>(
            ::fcntl(file.descriptor.number(), F_DUPFD_CLOEXEC, 3));
        const bool queued =
            source->valid() && threads_.run([this, which, source, bytes_max, joined] {
                run(which, *source, bytes_max, joined);
            });
        if (!queued) {
            const kevring::thread_lock lock(mutex_);
            finish(which, *joined);
            co_return nullptr;
        }
    }
    const bool ended = co_await done->wait(loop);
    if (!ended) co_return nullptr;
    const kevring::thread_lock lock(mutex_);
    co_return joined->made;
}

// On the background thread.
void compression_service::run(const key& which, const kevring::fd& source, std::size_t bytes_max,
                              const std::shared_ptr<job>& self) {
    std::shared_ptr<const compressed_content> made;
    try {
        made = make(which, source, bytes_max);
    } catch (const std::exception&) {
        made = nullptr;  // no memory
    }
    const kevring::thread_lock lock(mutex_);
    self->made = made;
    try {
        if (made) made_[which] = std::move(made);
    } catch (const std::exception&) {
        self->made = nullptr;
    }
    make_room(bytes_max);
    finish(which, *self);
}

std::shared_ptr<const compressed_content> compression_service::make(const key& which,
                                                                    const kevring::fd& source,
                                                                    std::size_t bytes_max) {
    const auto& [device, inode, modified_ns, changed_ns, byte_count, coding] = which;
    if (used_bytes() + byte_count > bytes_max) {
        const kevring::thread_lock lock(mutex_);
        make_room(bytes_max - (bytes_max < byte_count ? bytes_max : byte_count));
    }
    if (used_bytes() + byte_count > bytes_max) return nullptr;
    kevring::fd file =
        compress_file(source, byte_count, coding, [this] { return threads_.stopping(); });
    if (threads_.stopping()) return nullptr;
    struct stat status{};
    const bool unchanged = ::fstat(source.number(), &status) == 0 &&
                           ns_of(status.st_mtim) == modified_ns &&
                           ns_of(status.st_ctim) == changed_ns &&
                           static_cast<std::uint64_t>(status.st_size) == byte_count;
    if (!unchanged) return nullptr;
    std::uint64_t made_bytes = entry_bytes;
    if (file) {
        const timespec times[2] = {status.st_mtim, status.st_mtim};
        if (::futimens(file.number(), times) != 0 || ::fstat(file.number(), &status) != 0)
            return nullptr;
        made_bytes = static_cast<std::uint64_t>(status.st_size);
    }
    used_bytes_.fetch_add(made_bytes, std::memory_order_relaxed);
    return std::make_shared<const compressed_content>(std::move(file), made_bytes, used_bytes_);
}

// Drops contents that no loop uses. Those in use are dropped once their files leave the caches of
// the loops.
void compression_service::make_room(std::size_t bytes_max) {
    for (auto each = made_.begin(); each != made_.end() && used_bytes() > bytes_max;)
        each = each->second.use_count() == 1 ? made_.erase(each) : std::next(each);
}

void compression_service::finish(const key& which, job& self) {
    for (const auto& each : self.waiters) each->signal();
    waiting_.erase(which);
}

}  // namespace httpd
