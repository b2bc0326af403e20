// worker.hpp: one loop of the server: its listeners, its connections and what they share.
#pragma once

#include "address_counts.hpp"
#include "examples/httpd/config/configuration.hpp"
#include "examples/httpd/config/settings.hpp"
#include "examples/httpd/content/background_threads.hpp"
#include "examples/httpd/content/compression_service.hpp"
#include "examples/httpd/content/file_cache.hpp"
#include "examples/httpd/content/file_watch.hpp"
#include "examples/httpd/content/listing_service.hpp"
#include "examples/httpd/http/http_date.hpp"
#include "examples/httpd/observe/access_log.hpp"
#include "examples/httpd/observe/worker_report.hpp"

#include <kevring/net/listener.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/thread_mutex.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <list>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace httpd {

class connection;

/// Passwords that are verified in the background.
struct verification_state {
    static constexpr unsigned waiting_max = 64;
    std::atomic<unsigned> waiting{0};  // queued or running
    background_threads threads{2};     // last: its jobs count
};

/// Shared by all loops of the server.
struct shared_state {
    // Written on any loop.
    std::atomic<unsigned> connection_count{0};
    kevring::thread_mutex backlog_mutex;  // held while one loop accepts the backlog of a socket
    // Any thread.
    address_counts addresses;
    background_threads threads{2};
    listing_budget listings{threads};
    verification_state verifications;
    compression_service compression;
};

/// A listening socket for one loop, and the number of its address, which is the same in all loops.
struct opened_listener {
    unsigned number;
    kevring::fd socket;
    bool encrypted = false;  // serves https
};

/// A change of configuration, for one loop.
struct worker_change {
    std::shared_ptr<const configuration> next;
    std::vector<opened_listener> opened;
    std::vector<unsigned> closed;
};

/// Memory for a response's head and a small body, kept warm between responses.
using send_block = std::array<char, 40 * 1024>;

/// A serialized small response, for further requests of the same loop iteration.
struct shared_response {
    std::shared_ptr<send_block> block;  // begins with it; these bytes are not written again
    std::size_t byte_count = 0;
    const open_file* file = nullptr;
    unsigned minor_version = 1;
    bool keep_alive = true;
};

/// Thread     That of its loop.
class worker {
public:
    /// `begin` has all listeners, and closes none.
    worker(kevring::ring& loop, shared_state& shared, worker_change begin, report_slot& reports);
    worker(const worker&) = delete;
    worker& operator=(const worker&) = delete;

    /// Serves until it is drained.
    kevring::task<void> serve();

    /// Stops accepting, ends idle connections, and gives the others the drain time. A second call
    /// ends them immediately.
    void drain() noexcept;
    /// Another process serves the listeners: stops accepting, and ends each connection with its
    /// next response; connections without one end after the drain time.
    void retire() noexcept;
    /// Switches to another configuration. Requests that are being answered keep theirs. A listener
    /// that is closed first accepts the connections in its backlog.
    void change(worker_change to);

    kevring::ring& loop() noexcept { return loop_; }
    /// The configuration for requests that begin now. Holding it touches no other loop's memory.
    const std::shared_ptr<const configuration>& current_configuration() const noexcept {
        return current_;
    }
    const settings& options() const noexcept { return current_->options; }
    listing_budget& listings() noexcept { return shared_.listings; }
    compression_service& compression() noexcept { return shared_.compression; }
    verification_state& verifications() noexcept { return shared_.verifications; }

    /// The cached file for a path of a site of the current configuration, if it is unchanged; it is
    /// open, or its content is in memory and `may_be_closed`. Null: look it up.
    ///
    /// Lifetime   Until the next call.
    cached_file* cached(std::size_t site_index, std::string_view raw_path,
                        bool may_be_closed = false);
    /// Keeps the content of a small file that was just read, if there is memory for it.
    void keep_content(std::size_t site_index, cached_file& known, std::string_view bytes) noexcept;
    /// The same if the loop may have run since the read began: keeps nothing of a changed file.
    void keep_content(std::size_t site_index, std::string_view raw_path, const served_file& file,
                      std::string_view bytes);
    /// The response that was serialized for `known` in this loop iteration; null if there is none.
    /// The requests of one iteration arrived before it was serialized, so it is current for each.
    const shared_response* find_shared(const cached_file& known) const noexcept {
        return known.shared_generation == changes_generation_
                   ? &shared_responses_[known.shared_index]
                   : nullptr;
    }
    void publish_shared(cached_file& known, shared_response response);
    /// Keeps a file that a site of the current configuration has found.
    void cache(std::size_t site_index, std::string_view raw_path,
               const std::shared_ptr<served_file>& file);

    access_log& log() noexcept { return log_; }
    /// Whether durations of requests are recorded; otherwise no clock is read for them.
    bool timing_enabled() const noexcept { return timing_enabled_; }
    worker_counters& counters() noexcept { return counters_; }
    /// Counts it, and reports it unless another one was reported in this second: a client must not
    /// be able to fill the log.
    void record_handshake_failure(const std::optional<ip_address>& client,
                                  const std::error_code& failure);
    /// Publishes a report for other threads.
    void report() noexcept;
    bool draining() const noexcept { return draining_; }
    bool retiring() const noexcept { return retiring_; }

    std::shared_ptr<send_block> acquire_block();
    void release_block(std::shared_ptr<send_block> block) noexcept;
    /// The value of Date for now.
    std::string_view date() { return date_.at(std::time(nullptr)); }

    /// Counts a connection of an address that its proxy has named. False if the address has as many
    /// as it may; `counted` ends the count.
    bool count_address(const ip_address& address, std::optional<address_counts::holder>& counted);

    // Called by connections when they begin and end.
    void add(connection& one);
    void remove(connection& one) noexcept;

private:
    struct worker_listener {
        worker_listener(kevring::ring& loop, opened_listener opened)
            : number(opened.number),
              encrypted(opened.encrypted),
              listener(loop, std::move(opened.socket)) {}
        unsigned number;
        bool encrypted;
        kevring::listener listener;
        bool closing = false;
    };
    // The files of one site that are known, and the watch that keeps them current.
    struct site_cache {
        site_cache(const site& served, std::size_t open_count_max, std::size_t content_bytes_max)
            : files(open_count_max, content_bytes_max), watch(served.files.root()) {}
        file_cache files;
        file_watch watch;
        std::uint64_t generation = 0;  // of the loop, when changes were applied last
    };

    void set_configuration(std::shared_ptr<const configuration> next);
    void clear_shared() noexcept;
    void write_log();
    kevring::task<void> accept_from(worker_listener& from);
    void accept_backlog(worker_listener& from);
    void on_accept(kevring::socket client, bool encrypted);
    kevring::task<void> serve_client(kevring::socket client, bool encrypted);
    std::optional<ip_address> counted_address(const kevring::socket& client) const;
    kevring::task<void> serve_counted(kevring::socket client, bool encrypted, ip_address address);
    kevring::task<void> reject(kevring::socket client);

    // Constant after construction.
    kevring::ring& loop_;
    shared_state& shared_;
    report_slot& reports_;

    std::shared_ptr<const configuration> current_;  // its count is used by this loop alone
    access_log log_;
    bool timing_enabled_ = false;
    std::list<worker_listener> listeners_;
    std::list<site_cache> site_caches_;              // of current_, in the order of its sites
    std::vector<site_cache*> caches_;                // the same, by index
    std::uint64_t changes_generation_ = 0;           // of the loop, for shared_responses_
    std::vector<shared_response> shared_responses_;  // of that generation
    std::vector<std::shared_ptr<send_block>> free_blocks_;
    std::vector<connection*> connections_;
    kevring::task_scope* accepting_ = nullptr;
    kevring::task_scope* clients_ = nullptr;
    kevring::task_scope* logging_ = nullptr;
    unsigned rejecting_count_ = 0;  // clients that are being answered with 503
    bool draining_ = false;
    bool retiring_ = false;
    http_date_cache date_;
    worker_counters counters_;
    std::time_t handshake_failure_second_ = 0;         // of the last report
    std::uint64_t unreported_handshake_failures_ = 0;  // since then
};

}  // namespace httpd
