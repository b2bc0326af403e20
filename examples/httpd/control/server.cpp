#include "server.hpp"

#include "accounts.hpp"
#include "descriptor_limits.hpp"
#include "examples/httpd/observe/error_log.hpp"
#include "examples/httpd/observe/metrics_server.hpp"
#include "init_process.hpp"
#include "sandbox.hpp"
#include "service_manager.hpp"

#include <kevring/kevent/signal_stream.hpp>
#include <kevring/net/listener.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <exception>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace httpd {
namespace {

// A new process that does not serve within this time is killed.
constexpr auto upgrade_timeout = std::chrono::seconds(60);
// The numbers of the addresses of https, beyond those of the others.
constexpr unsigned first_tls_number = 1U << 31;
constexpr std::array handled_signals{SIGINT, SIGTERM, SIGHUP, SIGUSR2};

// The file of this program at its start: a newer one is expected at the same path.
std::string own_path() {
    std::array<char, PATH_MAX> path{};
    const ssize_t count = ::readlink("/proc/self/exe", path.data(), path.size());
    return {path.data(), count < 0 ? 0 : static_cast<std::size_t>(count)};
}

std::string process_text(const upgrade_process& upgrade) {
    return "process " + std::to_string(upgrade.process());
}

}  // namespace

server::server(int argc, char** argv, const settings& first, unsigned loop_count)
    : argc_(argc),
      argv_(argv),
      first_(first),
      program_(own_path()),
      listening_("--listen", loop_count),
      tls_listening_("--listen-tls", loop_count, first_tls_number),
      metrics_("--metrics", 1),
      loops_(loop_count, events_) {
    kevring::signal_set signals;
    for (const int number : handled_signals) signals.add(number);
    kevring::value_or_throw(signals.block(), "signals");  // in all threads that are started later
    for (const int number : handled_signals)
        kevring::value_or_throw(events_.add(kevring::signal(number)), "signals");
    inherited_ = take_inherited_sockets();
    activated_ = std::ranges::any_of(
        inherited_.sockets, [](const inherited_socket& each) { return each.name.empty(); });
    prepared opened = open(first);
    // The rights of root are used to bind sockets only: everything that is opened after this can be
    // opened again by a reload.
    drop_privileges(first.user);
    const auto made = std::make_shared<const configuration>(first);
    if (sandbox_enabled(first.sandbox)) open_sandbox(*made);
    apply(made, std::move(opened));
}

void server::open_sandbox(const configuration& allowed) {
    for (const site& each : allowed.sites) {
        sandbox_roots_.emplace_back(::fcntl(each.files.root().number(), F_DUPFD_CLOEXEC, 0));
        if (!sandbox_roots_.back())
            throw std::system_error(errno, std::system_category(), "--sandbox");
    }
}

// A restricted thread cannot regain access: neither to another root, nor to a directory that was
// created again at the path of the old one.
bool server::sandbox_allows(const configuration& next) const noexcept {
    if (sandbox_roots_.empty()) return true;
    return std::ranges::all_of(next.sites, [this](const site& each) {
        return std::ranges::any_of(sandbox_roots_, [&](const kevring::fd& root) {
            return is_within(root, each.files.root());
        });
    });
}

server::prepared server::open(const settings& options) {
    const bool listed = !activated_ || options.listen_given;
    std::vector<option_text> metrics;
    if (!options.metrics.empty()) metrics.push_back(options.metrics);
    const unix_socket_access access{options.unix_mode, options.unix_owner};
    return {listening_.prepare(listed ? options.listen : std::vector<option_text>(),
                               inherited_.sockets, access),
            tls_listening_.prepare(options.listen_tls, inherited_.sockets, access),
            metrics_.prepare(metrics, inherited_.sockets, access)};
}

void server::apply(std::shared_ptr<const configuration> next, prepared opened) {
    set_error_log(next->errors);
    const std::string& root = next->options.site.root.text;
    const auto add_addresses = [&](const listeners::change& made, const std::string& scheme) {
        for (const listeners::listen_address& each : made.made()) {
            const bool is_unix = each.address.family() == AF_UNIX;
            addresses_.push_back("serving " + root + " at " + (is_unix ? "" : scheme) +
                                 each.address.to_string());
        }
    };
    add_addresses(opened.listening, "http://");
    add_addresses(opened.tls, "https://");
    listening_.commit(opened.listening);
    tls_listening_.commit(opened.tls);
    for (std::size_t loop = 0; loop < opened.tls.opened.size(); ++loop)
        for (opened_listener& each : opened.tls.opened[loop]) {
            each.encrypted = true;
            opened.listening.opened[loop].push_back(std::move(each));
        }
    for (const unsigned number : opened.tls.closed) opened.listening.closed.push_back(number);
    current_ = next;
    metrics_.commit(opened.metrics);
    loops_.change(next, std::move(opened.listening.opened), opened.listening.closed);
    metrics_changes_.push_back(std::move(opened.metrics));
}

void server::reload() noexcept try {
    if (upgrade_) throw std::runtime_error("another process is about to take over");
    notify_reloading();
    settings options = reload_settings(argc_, argv_);
    apply_descriptor_limit(options, static_cast<unsigned>(loops_.slot_count()));
    const auto next = std::make_shared<const configuration>(options, current_.get());
    if (!sandbox_allows(*next)) {
        log_message(
            severity::warning,
            "the loops are restricted to the previous root; a new process takes over with " +
                options.site.root.label());
        start_upgrade();
        return;
    }
    apply(next, open(options));
    for (const std::string& each : std::exchange(addresses_, {}))
        log_message(severity::notice, each);
    if (options.thread_count != first_.thread_count || !(options.user == first_.user) ||
        options.sandbox != first_.sandbox)
        log_message(severity::warning,
                    "--threads, --user and --sandbox keep their values until SIGUSR2 or a restart");
    finished_ = {"the configuration has been read again", "READY=1"};
} catch (const std::exception& wrong) {
    log_message(severity::error,
                std::string("reload failed, the configuration stays as it was: ") + wrong.what());
    notify_service_manager("READY=1");
}

void server::stop() noexcept {
    if (upgrade_) {
        static_cast<void>(upgrade_->end());
        clear_upgrade();
    }
    stopping_ = true;
    notify_service_manager("STOPPING=1");
    loops_.drain();
}

void server::begin_serving() noexcept {
    if (stopping_) return;  // an old process continues
    serving_ = true;
    for (const inherited_socket& each : inherited_.sockets) {
        kevring::endpoint address;  // that is not listed any more
        socklen_t bytes = kevring::endpoint::capacity();
        if (::getsockname(each.socket.number(), address.address(), &bytes) != 0) continue;
        address.set_address_bytes(bytes);
        if (!address.path().empty()) ::unlink(std::string(address.path()).c_str());
    }
    inherited_.sockets.clear();
    listening_.set_path_ownership(true);
    tls_listening_.set_path_ownership(true);
    metrics_.set_path_ownership(true);
    for (const std::string& each : std::exchange(addresses_, {}))
        log_message(severity::notice, each);
    notify_service_manager("READY=1");
    if (inherited_.ready) static_cast<void>(!::write(inherited_.ready.number(), "", 1));
    inherited_.ready = {};
    if (upgrade_requested_) start_upgrade();
}

void server::handle_signal(int number) noexcept {
    if (replaced_ && is_init_process()) forward_signal(number);  // to the process that took over
    if (number == SIGINT || number == SIGTERM) return stop();
    if (stopping_) return;
    if (number == SIGHUP)
        reload();
    else
        start_upgrade();
}

void server::start_upgrade() noexcept try {
    if (!serving_) {  // a loop that has not begun cannot be retired
        upgrade_requested_ = true;
        return;
    }
    if (upgrade_) {
        log_message(severity::warning, process_text(*upgrade_) + " is about to take over already");
        return;
    }
    std::vector<handed_socket> sockets;
    listening_.append_inherited(sockets);
    tls_listening_.append_inherited(sockets);
    metrics_.append_inherited(sockets);
    upgrade_.emplace(program_, argv_, sockets);
    upgrade_ready_ = kevring::value_or_throw(events_.add(kevring::readable(upgrade_->ready_fd())),
                                             "the control queue");
    upgrade_ended_ = kevring::value_or_throw(events_.add(kevring::process(upgrade_->process())),
                                             "the control queue");
    upgrade_deadline_ = kevring::value_or_throw(
        events_.add(kevring::timer(upgrade_timeout), {}, kevring::repeat::once),
        "the control queue");
    log_message(severity::notice, process_text(*upgrade_) + " is to take over");
} catch (const std::exception& wrong) {
    log_message(severity::error,
                std::string("upgrade failed: ") + wrong.what() + "; this process keeps serving");
    if (upgrade_) static_cast<void>(upgrade_->end());
    clear_upgrade();
    notify_service_manager("READY=1");
}

void server::clear_upgrade() noexcept {
    for (const kevring::event_key each : {upgrade_ready_, upgrade_ended_, upgrade_deadline_})
        events_.remove(each);
    upgrade_.reset();
}

// The new process has ended before it served, or was too slow.
void server::abort_upgrade() noexcept {
    const std::string process = process_text(*upgrade_);
    log_message(severity::error, "upgrade failed: " + process + ' ' + upgrade_->end() +
                                     "; this process keeps serving");
    clear_upgrade();
    notify_service_manager("READY=1");
}

void server::upgrade_finished() noexcept {
    const auto process = static_cast<int>(upgrade_->process());
    clear_upgrade();
    stopping_ = true;
    replaced_ = true;
    listening_.set_path_ownership(false);
    tls_listening_.set_path_ownership(false);
    metrics_.set_path_ownership(false);
    finished_ = {"process " + std::to_string(process) + " has taken over",
                 "MAINPID=" + std::to_string(process)};
    for (const metrics_listener& each : metrics_listeners_) each.scope->request_stop();
    loops_.retire();
}

void server::change_metrics(kevring::task_scope& scope) {
    for (listeners::change& each : std::exchange(metrics_changes_, {})) {
        for (opened_listener& opened : each.opened.front())
            scope.spawn(serve_metrics_at(std::move(opened)));
        for (const unsigned number : each.closed)
            for (const metrics_listener& listener : metrics_listeners_)
                if (listener.number == number) listener.scope->request_stop();
    }
}

kevring::task<void> server::serve_metrics_at(opened_listener opened) {
    auto limit = co_await kevring::within(std::chrono::nanoseconds::max());
    kevring::ring& loop = *kevring::ring::current();
    const auto self =
        metrics_listeners_.insert(metrics_listeners_.end(), {opened.number, &limit.scope()});
    co_await serve_metrics(kevring::listener(loop, std::move(opened.socket)), loops_);
    metrics_listeners_.erase(self);
}

// Reports a change once all loops have made it: a client that comes after the message finds it.
kevring::task<void> server::report_finished() {
    co_await loops_.refresh();
    const finished_change done = *std::exchange(finished_, std::nullopt);
    log_message(severity::notice, done.message);
    notify_service_manager(done.notification);
}

// Until all loops have ended, or the run is stopped because one of them failed.
kevring::task<void> server::control() {
    kevring::ring& loop = *kevring::ring::current();
    kevring::cancel_scope& outer = co_await kevring::current_scope();
    kevring::task_scope metrics(loop, &outer);
    const kevring::event_key all_serving{worker_pool::all_serving.number,
                                         kevring::event_type::unotify};
    const kevring::event_key all_stopped{worker_pool::all_stopped.number,
                                         kevring::event_type::unotify};
    while (true) {
        change_metrics(metrics);
        if (finished_) co_await report_finished();  // for a second at most; signals wait
        const auto event = co_await events_.next();
        if (!event || event->key() == all_stopped) break;
        if (event->key() == all_serving) {
            begin_serving();
        } else if (event->type() == kevring::event_type::signal) {
            handle_signal(static_cast<int>(event->number()));
        } else if (upgrade_) {
            if (event->key() == upgrade_ready_ && upgrade_->serves())
                upgrade_finished();
            else if (event->key() != upgrade_ready_)  // otherwise its end is reported next
                abort_upgrade();
        }
    }
    metrics.request_stop();
    co_await metrics.join();
}

kevring::task<void> server::work(unsigned index) {
    // First: the kernel's threads for this ring get the rights of the thread that starts them.
    if (!sandbox_roots_.empty()) restrict_thread(sandbox_roots_);
    kevring::ring& loop = *kevring::ring::current();
    worker own(loop, shared_, loops_.initial_change(index), loops_.slot(index));
    loops_.join(index, own);
    std::exception_ptr failure;
    try {
        co_await own.serve();
    } catch (...) {
        failure = std::current_exception();
    }
    loops_.leave(index);
    if (failure) std::rethrow_exception(failure);
}

}  // namespace httpd
