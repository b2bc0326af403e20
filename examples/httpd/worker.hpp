// worker.hpp: one loop of the server: its listeners, its connections and what they share.
#pragma once

#include "access_log.hpp"
#include "file_cache.hpp"
#include "file_watch.hpp"
#include "http_date.hpp"
#include "own_answers.hpp"
#include "settings.hpp"
#include "site.hpp"
#include "worker_report.hpp"

#include <kevring/net/listener.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <string_view>
#include <vector>

namespace httpd {

class connection;

/// What all loops of the server share.
struct shared_state {
    explicit shared_state(const settings& with)
        : options(with),
          files(with.root, with.precompressed, with.directory_listing),
          answers(with) {}

    // Constant once the loops run.
    const settings& options;
    const site files;
    const own_answers answers;
    // Written on any loop.
    std::atomic<unsigned> connection_count{0};
};

/// Memory for a response's head and a small body, kept warm between responses.
using send_block = std::array<char, 40 * 1024>;

/// Thread     That of its loop.
class worker {
public:
    worker(kevring::ring& on, shared_state& shared, std::vector<kevring::listener> listeners,
           access_log& log, report_slot& reports);
    worker(const worker&) = delete;
    worker& operator=(const worker&) = delete;

    /// Serves until it is drained, then ends.
    kevring::task<void> serve();

    /// Stops accepting, ends idle connections, and gives the others the drain time; asked a second
    /// time it ends them at once.
    void drain() noexcept;
    /// Opens the access log anew.
    void reopen() noexcept { log_.reopen(); }

    kevring::ring& on() noexcept { return ring_; }
    shared_state& shared() noexcept { return shared_; }
    const settings& options() const noexcept { return shared_.options; }
    /// The cached file for a path, if it is as it was; null: look it up.
    const std::shared_ptr<const served_file>* cached(std::string_view raw_path);
    void cache(std::string_view raw_path, const std::shared_ptr<served_file>& file);
    access_log& log() noexcept { return log_; }
    /// Whether anyone wants to know how long requests take: else no clock is read for it.
    bool timed() const noexcept { return timed_; }
    worker_counters& counters() noexcept { return counters_; }
    /// Puts a report where other threads read it.
    void report() noexcept;
    bool draining() const noexcept { return draining_; }

    std::unique_ptr<send_block> take_block();
    void give_block(std::unique_ptr<send_block> block) noexcept;
    /// The value of a Date field for now.
    std::string_view date() { return date_.at(std::time(nullptr)); }

    // Called by connections as they come and go.
    void add(connection& one);
    void remove(connection& one) noexcept;

private:
    kevring::task<void> accept_from(kevring::listener& doors, kevring::task_scope& clients);
    kevring::task<void> turn_away(kevring::socket client);

    // Constant after construction.
    kevring::ring& ring_;
    shared_state& shared_;
    access_log& log_;
    report_slot& reports_;
    const bool timed_;

    std::vector<kevring::listener> listeners_;
    file_cache cache_;
    file_watch watch_;
    std::uint64_t looked_in_turn_ = 0;  // the turn in which changes were taken last
    std::vector<std::unique_ptr<send_block>> free_blocks_;
    std::vector<connection*> connections_;
    kevring::task_scope* accepting_ = nullptr;
    kevring::task_scope* clients_ = nullptr;
    unsigned turned_away_ = 0;  // clients that are being told so
    bool draining_ = false;
    http_date_cache date_;
    worker_counters counters_;
};

}  // namespace httpd
