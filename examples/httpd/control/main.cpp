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
constexpr auto succession_time = std::chrono::seconds(60);

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
    struct metrics_door {
        unsigned number;
        kevring::cancel_scope* scope;
    };

    struct prepared {
        httpd::doors::change listening;
        httpd::doors::change metrics;
    };

    prepared open(const settings& with);
    void use(const settings& with, prepared opened);
    void reload() noexcept;
    void stop() noexcept;
    void begin_to_serve() noexcept;
    void begin_succession() noexcept;
    void succeeded() noexcept;
    void give_up_succession() noexcept;
    void forget_successor() noexcept;
    void change_metrics(kevring::task_scope& beside);
    kevring::task<void> serve_metrics_at(httpd::opened_door where);

    const int argc_;
    char** const argv_;
    const settings first_;  // some hold until the end
    const std::string program_ = own_path();
    kevring::fd confined_to_;       // the root that the loops cannot leave; none: they are free
    httpd::inheritance inherited_;  // what of it is not in use
    bool activated_ = false;        // by systemd, so that no address need be listed
    bool leaving_ = false;
    bool serving_ = false;           // all loops do
    bool succession_asked_ = false;  // before that

    httpd::shared_state shared_;
    kevring::event_queue events_;
    httpd::doors listening_;
    httpd::doors metrics_;
    httpd::crew loops_;
    std::optional<httpd::successor> successor_;  // that has not begun to serve
    kevring::event_key tidings_{};               // of it
    kevring::event_key ended_{};
    kevring::event_key patience_{};                      // with it
    std::vector<httpd::doors::change> metrics_changes_;  // that are to be made
    std::list<metrics_door> metrics_doors_;
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
    inherited_ = httpd::take_inheritance();
    for (const httpd::inherited_socket& each : inherited_.sockets)
        if (each.name.empty()) activated_ = true;
    prepared opened = open(first);
    // Last: with the rights of root only sockets are bound, so that what can be opened now can be
    // opened again by a reload.
    httpd::become(first.user);
    if (httpd::is_confined(first.confine)) {
        confined_to_ = kevring::fd(::open(first.root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (!confined_to_)
            throw std::system_error(errno, std::system_category(), "--root " + first.root);
    }
    use(first, std::move(opened));
}

server::prepared server::open(const settings& with) {
    const bool listed = !activated_ || with.listen_given;
    std::vector<std::string> metrics;
    if (!with.metrics.empty()) metrics.push_back(with.metrics);
    return {
        listening_.prepare(listed ? with.listen : std::vector<std::string>(), inherited_.sockets),
        metrics_.prepare(metrics, inherited_.sockets)};
}

// All of it or, where something is wrong, nothing.
void server::use(const settings& with, prepared opened) {
    const auto made = std::make_shared<const httpd::configuration>(with);
    if (confined_to_ && !httpd::lies_within(confined_to_, made->files.root()))
        throw std::runtime_error("--root " + with.root + ": the loops are confined to " +
                                 first_.root + " and cannot leave it; SIGUSR2 or a restart can");
    for (const httpd::doors::door& each : opened.listening.made())
        std::fprintf(stderr, "httpd: serving %s at %s%s\n", with.root.c_str(),
                     each.where.family() == AF_UNIX ? "" : "http://",
                     each.where.to_string().c_str());
    listening_.commit(opened.listening);
    metrics_.commit(opened.metrics);
    loops_.change(made, std::move(opened.listening.opened), opened.listening.closed);
    metrics_changes_.push_back(std::move(opened.metrics));
}

void server::reload() noexcept try {
    if (successor_) throw std::runtime_error("a successor is about to take over");
    httpd::tell_manager("RELOADING=1");
    settings next = httpd::read_settings_again(argc_, argv_);
    httpd::fit_to_descriptors(next, static_cast<unsigned>(loops_.slot_count()));
    use(next, open(next));
    if (next.thread_count != first_.thread_count || next.user != first_.user ||
        next.confine != first_.confine)
        std::fprintf(stderr,
                     "httpd: --threads, --user and --confine are as they were until "
                     "SIGUSR2 or a restart\n");
    std::fprintf(stderr, "httpd: the configuration has been read again\n");
    httpd::tell_manager("READY=1");
} catch (const std::exception& wrong) {
    std::fprintf(stderr, "httpd: the configuration stays as it was: %s\n", wrong.what());
    httpd::tell_manager("READY=1");
}

void server::stop() noexcept {
    if (successor_) {
        static_cast<void>(successor_->end());
        forget_successor();
    }
    leaving_ = true;
    httpd::tell_manager("STOPPING=1");
    loops_.drain();
}

void server::begin_to_serve() noexcept {
    if (leaving_) return;  // told to stop before: a predecessor goes on
    serving_ = true;
    for (const httpd::inherited_socket& each : inherited_.sockets) {
        kevring::endpoint where;  // that no setting names any more
        socklen_t bytes = kevring::endpoint::capacity();
        if (::getsockname(each.socket.number(), where.address(), &bytes) != 0) continue;
        where.set_address_bytes(bytes);
        if (!where.path().empty()) ::unlink(std::string(where.path()).c_str());
    }
    inherited_.sockets.clear();
    listening_.own_paths(true);
    metrics_.own_paths(true);
    httpd::tell_manager("READY=1");
    if (inherited_.ready) static_cast<void>(!::write(inherited_.ready.number(), "", 1));
    inherited_.ready = {};
    if (succession_asked_) begin_succession();
}

void server::begin_succession() noexcept try {
    if (!serving_) {  // a loop that has not begun cannot be told that others go on
        succession_asked_ = true;
        return;
    }
    if (successor_) {
        std::fprintf(stderr, "httpd: process %d is about to take over already\n",
                     static_cast<int>(successor_->process()));
        return;
    }
    std::vector<httpd::heirloom> heirlooms;
    listening_.hand_over(heirlooms);
    metrics_.hand_over(heirlooms);
    successor_.emplace(program_, argv_, heirlooms);
    tidings_ = kevring::value_or_throw(events_.add(kevring::readable(successor_->tidings())),
                                       "the control queue");
    ended_ = kevring::value_or_throw(events_.add(kevring::process(successor_->process())),
                                     "the control queue");
    patience_ = kevring::value_or_throw(
        events_.add(kevring::timer(succession_time), {}, kevring::repeat::once),
        "the control queue");
    std::fprintf(stderr, "httpd: process %d is to take over\n",
                 static_cast<int>(successor_->process()));
} catch (const std::exception& wrong) {
    std::fprintf(stderr, "httpd: no successor, this process goes on: %s\n", wrong.what());
    if (successor_) static_cast<void>(successor_->end());
    forget_successor();
}

void server::forget_successor() noexcept {
    for (const kevring::event_key each : {tidings_, ended_, patience_}) events_.remove(each);
    successor_.reset();
}

// It has ended before it served, or has had its time.
void server::give_up_succession() noexcept {
    const auto process = static_cast<int>(successor_->process());
    std::fprintf(stderr, "httpd: process %d %s; this process goes on\n", process,
                 successor_->end().c_str());
    forget_successor();
}

void server::succeeded() noexcept {
    const auto process = static_cast<int>(successor_->process());
    forget_successor();
    leaving_ = true;
    listening_.own_paths(false);
    metrics_.own_paths(false);
    httpd::tell_manager("MAINPID=" + std::to_string(process));
    std::fprintf(stderr, "httpd: process %d has taken over\n", process);
    for (const metrics_door& each : metrics_doors_) each.scope->request_stop();
    loops_.retire();
}

void server::change_metrics(kevring::task_scope& beside) {
    for (httpd::doors::change& each : std::exchange(metrics_changes_, {})) {
        for (httpd::opened_door& opened : each.opened.front())
            beside.spawn(serve_metrics_at(std::move(opened)));
        for (const unsigned number : each.closed)
            for (const metrics_door& door : metrics_doors_)
                if (door.number == number) door.scope->request_stop();
    }
}

kevring::task<void> server::serve_metrics_at(httpd::opened_door where) {
    auto limit = co_await kevring::within(std::chrono::nanoseconds::max());
    kevring::ring& on = *kevring::ring::current();
    const auto self = metrics_doors_.insert(metrics_doors_.end(), {where.door, &limit.scope()});
    co_await httpd::serve_metrics(kevring::listener(on, std::move(where.socket)), loops_);
    metrics_doors_.erase(self);
}

// Until all loops have left, or the run is stopped because one of them failed.
kevring::task<void> server::control() {
    kevring::ring& on = *kevring::ring::current();
    kevring::cancel_scope& outer = co_await kevring::current_scope();
    kevring::task_scope beside(on, &outer);
    const kevring::event_key serve{httpd::crew::all_serve.number, kevring::event_type::unotify};
    const kevring::event_key left{httpd::crew::all_have_left.number, kevring::event_type::unotify};
    while (true) {
        change_metrics(beside);
        const auto event = co_await events_.next();
        if (!event || event->key() == left) break;
        if (event->key() == serve) {
            begin_to_serve();
        } else if (event->type() != kevring::event_type::signal) {
            if (!successor_) continue;
            if (event->key() == tidings_ && successor_->serves())
                succeeded();
            else if (event->key() != tidings_)  // else its end is to be heard of
                give_up_succession();
        } else if (event->number() == SIGHUP || event->number() == SIGUSR2) {
            if (leaving_) continue;
            if (event->number() == SIGHUP)
                reload();
            else
                begin_succession();
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
    if (confined_to_) httpd::confine_thread_to(confined_to_);
    kevring::ring& on = *kevring::ring::current();
    httpd::worker own(on, shared_, loops_.first_change(index), loops_.slot(index));
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
    if (const auto ends = httpd::read_settings(argc, argv, first)) return *ends;
    std::signal(SIGPIPE, SIG_IGN);
    const unsigned loop_count = first.thread_count != 0 ? first.thread_count : core_count();
    httpd::fit_to_descriptors(first, loop_count);
    server all(argc, argv, first, loop_count);
    kevring::run(loop_count + 1,
                 [&](unsigned index) { return index == 0 ? all.control() : all.work(index - 1); });
    return 0;
} catch (const std::exception& failure) {
    std::fprintf(stderr, "httpd: %s\n", failure.what());
    return 1;
}
