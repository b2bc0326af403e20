// worker.hpp: one loop of the server: its listeners, its connections and what they share.
#pragma once

#include "examples/httpd/config/configuration.hpp"
#include "examples/httpd/config/settings.hpp"
#include "examples/httpd/content/file_cache.hpp"
#include "examples/httpd/content/file_watch.hpp"
#include "examples/httpd/http/http_date.hpp"
#include "examples/httpd/observe/access_log.hpp"
#include "examples/httpd/observe/worker_report.hpp"

#include <kevring/net/listener.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace httpd {

class connection;

/// What all loops of the server share.
struct shared_state {
    // Written on any loop.
    std::atomic<unsigned> connection_count{0};
    std::mutex backlog_mutex;  // held by who takes what still waits at a socket
};

/// A listening socket for one loop, and the number that its address bears in all loops.
struct opened_listener {
    unsigned number;
    kevring::fd socket;
};

/// What a reload asks of one loop.
struct worker_change {
    std::shared_ptr<const configuration> next;
    std::vector<opened_listener> opened;
    std::vector<unsigned> closed;
};

/// Memory for a response's head and a small body, kept warm between responses.
using send_block = std::array<char, 40 * 1024>;

/// A small response, head and body, for who asks for the same at the same moment.
struct shared_response {
    std::shared_ptr<send_block> block;  // begins with it, and is not written to there any more
    std::size_t byte_count = 0;
    unsigned minor_version = 1;
    bool keep_alive = true;
};

/// Thread     That of its loop.
class worker {
public:
    /// `begin` has all of the doors, and closes none.
    worker(kevring::ring& loop, shared_state& shared, worker_change begin, report_slot& reports);
    worker(const worker&) = delete;
    worker& operator=(const worker&) = delete;

    /// Serves until it is drained, then ends.
    kevring::task<void> serve();

    /// Stops accepting, ends idle connections, and gives the others the drain time; asked a second
    /// time it ends them at once.
    void drain() noexcept;
    /// Others go on with the doors: stops accepting, and says to each client with its next answer
    /// that the connection ends; those that ask nothing more end after the drain time.
    void retire() noexcept;
    /// Goes over to another configuration. Requests that are being answered keep theirs; a door
    /// that is closed first gives the connections that wait at it.
    void change(worker_change to);

    kevring::ring& loop() noexcept { return loop_; }
    /// What requests are answered by that begin now. Holding it costs no other loop anything.
    const std::shared_ptr<const configuration>& current_configuration() const noexcept {
        return current_;
    }
    const settings& options() const noexcept { return current_->options; }
    /// The current configuration's cached file for a path, if it is as it was; it is open. Null:
    /// look it up.
    ///
    /// Lifetime   Until another is asked for.
    ///
    /// A file whose content is in memory, and good, may be closed: for who needs nothing else.
    cached_file* cached(std::string_view raw_path, bool may_be_closed = false);
    /// Keeps what was just read of a small file, where there is memory for it.
    void keep_content(cached_file& known, std::string_view bytes) noexcept;
    /// The same, where the loop may have run since the read began: nothing is kept of a file that
    /// has changed.
    void keep_content(std::string_view raw_path, const served_file& file, std::string_view bytes);
    /// What was made of `known` since the loop last took requests from the kernel; null if nothing
    /// was. All who are answered before it does so again had asked before it was made, so it is as
    /// new as any of them can know.
    const shared_response* find_shared(const cached_file& known) const noexcept {
        return known.shared_generation == changes_generation_
                   ? &shared_responses_[known.shared_index]
                   : nullptr;
    }
    void publish_shared(cached_file& known, shared_response what);
    /// Keeps a file that the current configuration has found.
    void cache(std::string_view raw_path, const std::shared_ptr<served_file>& file);
    access_log& log() noexcept { return log_; }
    /// Whether anyone wants to know how long requests take: else no clock is read for it.
    bool timing_enabled() const noexcept { return timing_enabled_; }
    worker_counters& counters() noexcept { return counters_; }
    /// Puts a report where other threads read it.
    void report() noexcept;
    bool draining() const noexcept { return draining_; }
    bool retiring() const noexcept { return retiring_; }

    std::shared_ptr<send_block> acquire_block();
    void release_block(std::shared_ptr<send_block> block) noexcept;
    /// The value of a Date field for now.
    std::string_view date() { return date_.at(std::time(nullptr)); }

    // Called by connections as they come and go.
    void add(connection& one);
    void remove(connection& one) noexcept;

private:
    struct worker_listener {
        worker_listener(unsigned number, kevring::listener listener)
            : number(number), listener(std::move(listener)) {}
        unsigned number;
        kevring::listener listener;
        bool closing = false;
    };

    void set_configuration(std::shared_ptr<const configuration> next);
    void clear_shared() noexcept;
    void write_log();
    kevring::task<void> accept_from(worker_listener& from);
    void accept_backlog(worker_listener& from);
    void on_accept(kevring::socket client);
    kevring::task<void> reject(kevring::socket client);

    // Constant after construction.
    kevring::ring& loop_;
    shared_state& shared_;
    report_slot& reports_;

    std::shared_ptr<const configuration> current_;  // counted on this loop alone
    access_log log_;
    bool timing_enabled_ = false;
    std::list<worker_listener> listeners_;
    std::optional<file_cache> cache_;  // of current_, and so is what hears of its changes
    std::optional<file_watch> watch_;
    std::uint64_t changes_generation_ = 0;           // the moment at which changes were taken last
    std::vector<shared_response> shared_responses_;  // at that moment
    std::vector<std::shared_ptr<send_block>> free_blocks_;
    std::vector<connection*> connections_;
    kevring::task_scope* accepting_ = nullptr;
    kevring::task_scope* clients_ = nullptr;
    kevring::task_scope* logging_ = nullptr;
    unsigned rejecting_count_ = 0;  // clients that are being told so
    bool draining_ = false;
    bool retiring_ = false;
    http_date_cache date_;
    worker_counters counters_;
};

}  // namespace httpd
