// compression_service.hpp: files that are compressed when they are asked for, shared by all loops.
#pragma once

#include "background_threads.hpp"
#include "completion_event.hpp"
#include "examples/httpd/http/accept_encoding.hpp"

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/thread_mutex.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

namespace httpd {

struct open_file;

/// A compressed file in memory. Its time of modification is that of the file that it was made of.
struct compressed_content {
    compressed_content(kevring::fd made, std::uint64_t bytes, std::atomic<std::size_t>& counter)
        : file(std::move(made)), byte_count(bytes), used_bytes(counter) {}
    compressed_content(const compressed_content&) = delete;
    compressed_content& operator=(const compressed_content&) = delete;
    ~compressed_content() { used_bytes.fetch_sub(byte_count, std::memory_order_relaxed); }

    const kevring::fd file;  // invalid: compression does not make it smaller
    const std::uint64_t byte_count;
    std::atomic<std::size_t>& used_bytes;
};

/// One thread compresses. Requests for one file that wait together get one result; the results stay
/// in memory up to a limit.
///
/// Lifetime   Outlives the contents and the loops.
/// Thread     Any.
class compression_service {
public:
    /// Files that wait; for a further one the response is not compressed.
    static constexpr std::size_t waiting_count_max = 64;

    /// Compresses `file`, unless that was done before.
    ///
    /// Result     Null if too much waits or is held (more than `bytes_max`), if the file changed in
    ///            the meantime, or if the scope around the await was stopped.
    /// Lifetime   `file` stays open until the await completes.
    kevring::task<std::shared_ptr<const compressed_content>> get(kevring::ring& loop,
                                                                 const open_file& file,
                                                                 content_coding coding,
                                                                 std::size_t bytes_max);

    std::size_t used_bytes() const noexcept { return used_bytes_.load(std::memory_order_relaxed); }

private:
    // Device, inode, time of modification and of change, size, coding.
    using key = std::tuple<std::uint64_t, std::uint64_t, std::int64_t, std::int64_t, std::uint64_t,
                           content_coding>;
    struct job {
        std::vector<std::shared_ptr<completion_event>> waiters;
        std::shared_ptr<const compressed_content> made;  // set before the waiters are signalled
    };

    void run(const key& which, const kevring::fd& source, std::size_t bytes_max,
             const std::shared_ptr<job>& self);
    std::shared_ptr<const compressed_content> make(const key& which, const kevring::fd& source,
                                                   std::size_t bytes_max);
    void make_room(std::size_t bytes_max) KEVRING_REQUIRES(mutex_);
    void finish(const key& which, job& self) KEVRING_REQUIRES(mutex_);

    std::atomic<std::size_t> used_bytes_{0};
    kevring::thread_mutex mutex_;
    std::map<key, std::shared_ptr<job>> waiting_ KEVRING_GUARDED_BY(mutex_);
    std::map<key, std::shared_ptr<const compressed_content>> made_ KEVRING_GUARDED_BY(mutex_);
    background_threads threads_{1};  // last: its jobs use the members above
};

}  // namespace httpd
