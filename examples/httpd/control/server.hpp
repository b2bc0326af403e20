// server.hpp: the control loop: listeners, configuration, signals and upgrades.
#pragma once

#include "examples/httpd/config/configuration.hpp"
#include "examples/httpd/config/settings.hpp"
#include "examples/httpd/serving/worker.hpp"
#include "inherited_sockets.hpp"
#include "listeners.hpp"
#include "upgrade.hpp"
#include "worker_pool.hpp"

#include <kevring/kevent/event_queue.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace httpd {

/// The server: the sockets, the configuration, the loops that serve, and the queue for everything
/// that the control loop waits for.
///
/// Thread     The control loop's, but for work().
class server {
public:
    /// Binds the sockets, then gives up the rights of root.
    ///
    /// Errors     Throws option_error, std::system_error or std::runtime_error.
    server(int argc, char** argv, const settings& first, unsigned loop_count);

    /// Ends when all loops have ended.
    kevring::task<void> control();
    /// Serves, on the loop with that index.
    kevring::task<void> work(unsigned index);

    /// Whether another process has taken over.
    bool is_replaced() const noexcept { return replaced_; }

private:
    struct metrics_listener {
        unsigned number;
        kevring::cancel_scope* scope;
    };
    // A change that all loops are asked to make.
    struct finished_change {
        std::string message;
        std::string notification;
    };
    struct prepared {
        listeners::change listening;
        listeners::change tls;
        listeners::change metrics;
    };

    void open_sandbox(const configuration& allowed);
    bool sandbox_allows(const configuration& next) const noexcept;
    prepared open(const settings& options);
    void apply(std::shared_ptr<const configuration> next, prepared opened);
    void print_addresses(const listeners::change& opened) const;
    void reload() noexcept;
    void stop() noexcept;
    void begin_serving() noexcept;
    void handle_signal(int number) noexcept;
    void start_upgrade() noexcept;
    void upgrade_finished() noexcept;
    void abort_upgrade() noexcept;
    void clear_upgrade() noexcept;
    void change_metrics(kevring::task_scope& scope);
    kevring::task<void> serve_metrics_at(opened_listener opened);
    kevring::task<void> report_finished();

    const int argc_;
    char** const argv_;
    const settings first_;  // some options stay until the end
    const std::string program_;
    std::vector<kevring::fd> sandbox_roots_;  // empty: the loops are not restricted
    inherited_sockets inherited_;             // those that are not in use
    bool activated_ = false;                  // by systemd, so that no address has to be listed
    bool stopping_ = false;
    bool replaced_ = false;
    bool serving_ = false;                     // all loops are
    bool upgrade_requested_ = false;           // before that
    std::vector<std::string> addresses_;       // to be printed once all loops serve
    std::optional<finished_change> finished_;  // to be reported once all loops have made it

    std::shared_ptr<const configuration> current_;
    shared_state shared_;
    kevring::event_queue events_;
    listeners listening_;
    listeners tls_listening_;
    listeners metrics_;
    worker_pool loops_;
    std::optional<upgrade_process> upgrade_;  // that does not serve yet
    kevring::event_key upgrade_ready_{};
    kevring::event_key upgrade_ended_{};
    kevring::event_key upgrade_deadline_{};
    std::vector<listeners::change> metrics_changes_;  // to be made by control()
    std::list<metrics_listener> metrics_listeners_;
};

}  // namespace httpd
