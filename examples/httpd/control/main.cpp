// main.cpp: sets the server up: settings, sockets, loops, and what signals ask for.
#include "descriptor_limits.hpp"
#include "examples/httpd/config/configuration.hpp"
#include "examples/httpd/config/settings.hpp"
#include "examples/httpd/observe/metrics_server.hpp"
#include "examples/httpd/serving/worker.hpp"
#include "inherited_sockets.hpp"
#include "listeners.hpp"
#include "sandbox.hpp"
#include "upgrade.hpp"
#include "worker_pool.hpp"

#include <kevring/kevent/event_queue.hpp>
#include <kevring/kevent/signal_stream.hpp>
#include <kevring/net/listener.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdio>
#include <exception>
#include <list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

using httpd::settings;

// For a successor to begin; one that needs longer is ended.
constexpr auto upgrade_timeout = std::chrono::seconds(60);

// Where this program was when it began, which is where a newer one is to be found.
std::string own_path() {
    std::array<char, PATH_MAX> path{};
    const ssize_t count = ::readlink("/proc/self/exe", path.data(), path.size());
    return {path.data(), count < 0 ? 0 : static_cast<std::size_t>(count)};
}

unsigned core_count() noexcept {
    cpu_set_t allowed;
    if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
    return static_cast<unsigned>(std::max(1, CPU_COUNT(&allowed)));
}

/// The server, as its control loop has it: what is listened at and what is served, the loops that
/// do it, and the queue in which all that the control loop waits for arrives.
class server {
public:
    server(int argc, char** argv, const settings& first, unsigned loop_count);

    kevring::task<void> control();
    kevring::task<void> work(unsigned index);

private:
    // A metrics listener, while it is served.
    struct metrics_listener {
        unsigned number;
        kevring::cancel_scope* scope;
    };

    struct prepared {
        httpd::listeners::change listening;
        httpd::listeners::change metrics;
    };

    prepared open(const settings& options);
    void use(const settings& options, prepared opened);
    void reload() noexcept;
    void stop() noexcept;
    void begin_to_serve() noexcept;
    void start_upgrade() noexcept;
    void upgrade_finished() noexcept;
    void abort_upgrade() noexcept;
    void clear_upgrade() noexcept;
    void change_metrics(kevring::task_scope& beside);
    kevring::task<void> serve_metrics_at(httpd::opened_listener opened);

    const int argc_;
    char** const argv_;
    const settings first_;  // some hold until the end
    const std::string program_ = own_path();
    kevring::fd confined_to_;  // the root that the loops cannot leave; none: they are free
    httpd::inherited_sockets inherited_;  // what of it is not in use
    bool activated_ = false;              // by systemd, so that no address need be listed
    bool stopping_ = false;
    bool serving_ = false;            // all loops do
    bool upgrade_requested_ = false;  // before that

    httpd::shared_state shared_;
    kevring::event_queue events_;
    httpd::listeners listening_;
    httpd::listeners metrics_;
    httpd::worker_pool loops_;
    std::optional<httpd::upgrade_process> upgrade_;  // that has not begun to serve
    kevring::event_key upgrade_ready_{};             // of it
    kevring::event_key upgrade_ended_{};
    kevring::event_key upgrade_deadline_{};                  // with it
    std::vector<httpd::listeners::change> metrics_changes_;  // that are to be made
    std::list<metrics_listener> metrics_listeners_;
};

server::server(int argc, char** argv, const settings& first, unsigned loop_count)
    : argc_(argc),
      argv_(argv),
      first_(first),
      listening_("--listen", loop_count),
      metrics_("--metrics", 1),
      loops_(loop_count, events_) {
    const kevring::signal_set signals{SIGINT, SIGTERM, SIGHUP, SIGUSR2};
    kevring::value_or_throw(signals.block(), "signals");  // in all threads that will be
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR2})
        kevring::value_or_throw(events_.add(kevring::signal(number)), "signals");
    inherited_ = httpd::take_inherited_sockets();
    for (const httpd::inherited_socket& each : inherited_.sockets)
        if (each.name.empty()) activated_ = true;
    prepared opened = open(first);
    // Last: with the rights of root only sockets are bound, so that what can be opened now can be
    // opened again by a reload.
    httpd::drop_privileges(first.user);
    if (httpd::sandbox_enabled(first.sandbox)) {
        confined_to_ = kevring::fd(::open(first.root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (!confined_to_)
            throw std::system_error(errno, std::system_category(), "--root " + first.root);
    }
    use(first, std::move(opened));
}

server::prepared server::open(const settings& options) {
    const bool listed = !activated_ || options.listen_given;
    std::vector<std::string> metrics;
    if (!options.metrics.empty()) metrics.push_back(options.metrics);
    return {listening_.prepare(listed ? options.listen : std::vector<std::string>(),
                               inherited_.sockets),
            metrics_.prepare(metrics, inherited_.sockets)};
}

// All of it or, where something is wrong, nothing.
void server::use(const settings& options, prepared opened) {
    const auto made = std::make_shared<const httpd::configuration>(options);
    if (confined_to_ && !httpd::is_within(confined_to_, made->files.root()))
        throw std::runtime_error("--root " + options.root + ": the loops are confined to " +
                                 first_.root + " and cannot leave it; SIGUSR2 or a restart can");
    for (const httpd::listeners::listen_address& each : opened.listening.made())
        std::fprintf(stderr, "httpd: serving %s at %s%s\n", options.root.c_str(),
                     each.address.family() == AF_UNIX ? "" : "http://",
                     each.address.to_string().c_str());
    listening_.commit(opened.listening);
    metrics_.commit(opened.metrics);
    loops_.change(made, std::move(opened.listening.opened), opened.listening.closed);
    metrics_changes_.push_back(std::move(opened.metrics));
}

void server::reload() noexcept try {
    if (upgrade_) throw std::runtime_error("a successor is about to take over");
    httpd::notify_service_manager("RELOADING=1");
    settings next = httpd::reload_settings(argc_, argv_);
    httpd::apply_descriptor_limit(next, static_cast<unsigned>(loops_.slot_count()));
    use(next, open(next));
    if (next.thread_count != first_.thread_count || next.user != first_.user ||
        next.sandbox != first_.sandbox)
        std::fprintf(stderr,
                     "httpd: --threads, --user and --sandbox are as they were until "
                     "SIGUSR2 or a restart\n");
    std::fprintf(stderr, "httpd: the configuration has been read again\n");
    httpd::notify_service_manager("READY=1");
} catch (const std::exception& wrong) {
    std::fprintf(stderr, "httpd: the configuration stays as it was: %s\n", wrong.what());
    httpd::notify_service_manager("READY=1");
}

void server::stop() noexcept {
    if (upgrade_) {
        static_cast<void>(upgrade_->end());
        clear_upgrade();
    }
    stopping_ = true;
    httpd::notify_service_manager("STOPPING=1");
    loops_.drain();
}

void server::begin_to_serve() noexcept {
    if (stopping_) return;  // told to stop before: a predecessor goes on
    serving_ = true;
    for (const httpd::inherited_socket& each : inherited_.sockets) {
        kevring::endpoint where;  // that no setting names any more
        socklen_t bytes = kevring::endpoint::capacity();
        if (::getsockname(each.socket.number(), where.address(), &bytes) != 0) continue;
        where.set_address_bytes(bytes);
        if (!where.path().empty()) ::unlink(std::string(where.path()).c_str());
    }
    inherited_.sockets.clear();
    listening_.set_path_ownership(true);
    metrics_.set_path_ownership(true);
    httpd::notify_service_manager("READY=1");
    if (inherited_.ready) static_cast<void>(!::write(inherited_.ready.number(), "", 1));
    inherited_.ready = {};
    if (upgrade_requested_) start_upgrade();
}

void server::start_upgrade() noexcept try {
    if (!serving_) {  // a loop that has not begun cannot be told that others go on
        upgrade_requested_ = true;
        return;
    }
    if (upgrade_) {
        std::fprintf(stderr, "httpd: process %d is about to take over already\n",
                     static_cast<int>(upgrade_->process()));
        return;
    }
    std::vector<httpd::handed_socket> handed_sockets;
    listening_.append_inherited(handed_sockets);
    metrics_.append_inherited(handed_sockets);
    upgrade_.emplace(program_, argv_, handed_sockets);
    upgrade_ready_ = kevring::value_or_throw(events_.add(kevring::readable(upgrade_->ready_fd())),
                                             "the control queue");
    upgrade_ended_ = kevring::value_or_throw(events_.add(kevring::process(upgrade_->process())),
                                             "the control queue");
    upgrade_deadline_ = kevring::value_or_throw(
        events_.add(kevring::timer(upgrade_timeout), {}, kevring::repeat::once),
        "the control queue");
    std::fprintf(stderr, "httpd: process %d is to take over\n",
                 static_cast<int>(upgrade_->process()));
} catch (const std::exception& wrong) {
    std::fprintf(stderr, "httpd: no successor, this process goes on: %s\n", wrong.what());
    if (upgrade_) static_cast<void>(upgrade_->end());
    clear_upgrade();
}

void server::clear_upgrade() noexcept {
    for (const kevring::event_key each : {upgrade_ready_, upgrade_ended_, upgrade_deadline_})
        events_.remove(each);
    upgrade_.reset();
}

// It has ended before it served, or has had its time.
void server::abort_upgrade() noexcept {
    const auto process = static_cast<int>(upgrade_->process());
    std::fprintf(stderr, "httpd: process %d %s; this process goes on\n", process,
                 upgrade_->end().c_str());
    clear_upgrade();
}

void server::upgrade_finished() noexcept {
    const auto process = static_cast<int>(upgrade_->process());
    clear_upgrade();
    stopping_ = true;
    listening_.set_path_ownership(false);
    metrics_.set_path_ownership(false);
    httpd::notify_service_manager("MAINPID=" + std::to_string(process));
    std::fprintf(stderr, "httpd: process %d has taken over\n", process);
    for (const metrics_listener& each : metrics_listeners_) each.scope->request_stop();
    loops_.retire();
}

void server::change_metrics(kevring::task_scope& beside) {
    for (httpd::listeners::change& each : std::exchange(metrics_changes_, {})) {
        for (httpd::opened_listener& opened : each.opened.front())
            beside.spawn(serve_metrics_at(std::move(opened)));
        for (const unsigned number : each.closed)
            for (const metrics_listener& each_listener : metrics_listeners_)
                if (each_listener.number == number) each_listener.scope->request_stop();
    }
}

kevring::task<void> server::serve_metrics_at(httpd::opened_listener opened) {
    auto limit = co_await kevring::within(std::chrono::nanoseconds::max());
    kevring::ring& loop = *kevring::ring::current();
    const auto self =
        metrics_listeners_.insert(metrics_listeners_.end(), {opened.number, &limit.scope()});
    co_await httpd::serve_metrics(kevring::listener(loop, std::move(opened.socket)), loops_);
    metrics_listeners_.erase(self);
}

// Until all loops have left, or the run is stopped because one of them failed.
kevring::task<void> server::control() {
    kevring::ring& loop = *kevring::ring::current();
    kevring::cancel_scope& outer = co_await kevring::current_scope();
    kevring::task_scope beside(loop, &outer);
    const kevring::event_key serve{httpd::worker_pool::all_serving.number,
                                   kevring::event_type::unotify};
    const kevring::event_key left{httpd::worker_pool::all_stopped.number,
                                  kevring::event_type::unotify};
    while (true) {
        change_metrics(beside);
        const auto event = co_await events_.next();
        if (!event || event->key() == left) break;
        if (event->key() == serve) {
            begin_to_serve();
        } else if (event->type() != kevring::event_type::signal) {
            if (!upgrade_) continue;
            if (event->key() == upgrade_ready_ && upgrade_->serves())
                upgrade_finished();
            else if (event->key() != upgrade_ready_)  // else its end is to be heard of
                abort_upgrade();
        } else if (event->number() == SIGHUP || event->number() == SIGUSR2) {
            if (stopping_) continue;
            if (event->number() == SIGHUP)
                reload();
            else
                start_upgrade();
        } else {
            stop();
        }
    }
    beside.request_stop();
    co_await beside.join();
}

kevring::task<void> server::work(unsigned index) {
    // First: what the kernel does for this ring in threads of its own has the rights of the thread
    // that made it begin them.
    if (confined_to_) httpd::restrict_thread(confined_to_);
    kevring::ring& loop = *kevring::ring::current();
    httpd::worker own(loop, shared_, loops_.initial_change(index), loops_.slot(index));
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

}  // namespace

int main(int argc, char** argv) try {
    settings first;
    if (const auto ends = httpd::parse_settings(argc, argv, first)) return *ends;
    std::signal(SIGPIPE, SIG_IGN);
    const unsigned loop_count = first.thread_count != 0 ? first.thread_count : core_count();
    httpd::apply_descriptor_limit(first, loop_count);
    server all(argc, argv, first, loop_count);
    kevring::run(loop_count + 1,
                 [&](unsigned index) { return index == 0 ? all.control() : all.work(index - 1); });
    return 0;
} catch (const std::exception& failure) {
    std::fprintf(stderr, "httpd: %s\n", failure.what());
    return 1;
}
