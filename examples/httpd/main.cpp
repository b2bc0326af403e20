// main.cpp: sets the server up: settings, sockets, loops, and what signals ask for.
#include "configuration.hpp"
#include "crew.hpp"
#include "descriptors.hpp"
#include "doors.hpp"
#include "inheritance.hpp"
#include "metrics_server.hpp"
#include "settings.hpp"
#include "worker.hpp"

#include <kevring/kevent/event_queue.hpp>
#include <kevring/kevent/signal_stream.hpp>
#include <kevring/net/listener.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sched.h>
#include <sys/socket.h>

namespace {

using httpd::settings;

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

    prepared open(const settings& with, std::vector<kevring::fd> inherited = {});
    void use(const settings& with, prepared opened);
    void reload() noexcept;
    void change_metrics(kevring::task_scope& beside);
    kevring::task<void> serve_metrics_at(httpd::opened_door where);

    const int argc_;
    char** const argv_;
    const settings first_;    // some hold until the end
    bool inherited_ = false;  // sockets, so that none need be listed
    bool draining_ = false;

    httpd::shared_state shared_;
    kevring::event_queue events_;
    httpd::doors listening_;
    httpd::doors metrics_;
    httpd::crew loops_;
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
    const kevring::signal_set signals{SIGINT, SIGTERM, SIGHUP};
    kevring::value_or_throw(signals.block(), "signals");  // in all threads that will be
    for (const int number : {SIGINT, SIGTERM, SIGHUP})
        kevring::value_or_throw(events_.add(kevring::signal(number)), "signals");
    std::vector<kevring::fd> inherited = httpd::take_inherited_sockets();
    inherited_ = !inherited.empty();
    prepared opened = open(first, std::move(inherited));
    // Last: with the rights of root only sockets are bound, so that what can be opened now can be
    // opened again by a reload.
    httpd::become(first.user);
    use(first, std::move(opened));
}

server::prepared server::open(const settings& with, std::vector<kevring::fd> inherited) {
    const bool listed = !inherited_ || with.listen_given;
    std::vector<std::string> metrics;
    if (!with.metrics.empty()) metrics.push_back(with.metrics);
    return {
        listening_.prepare(listed ? with.listen : std::vector<std::string>(), std::move(inherited)),
        metrics_.prepare(metrics)};
}

// All of it or, where something is wrong, nothing.
void server::use(const settings& with, prepared opened) {
    const auto made = std::make_shared<const httpd::configuration>(with);
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
    settings next = httpd::read_settings_again(argc_, argv_);
    httpd::fit_to_descriptors(next, static_cast<unsigned>(loops_.slot_count()));
    use(next, open(next));
    if (next.thread_count != first_.thread_count || next.user != first_.user)
        std::fprintf(stderr, "httpd: --threads and --user are as they were until a restart\n");
    std::fprintf(stderr, "httpd: the configuration has been read again\n");
} catch (const std::exception& wrong) {
    std::fprintf(stderr, "httpd: the configuration stays as it was: %s\n", wrong.what());
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
    while (true) {
        change_metrics(beside);
        const auto event = co_await events_.next();
        if (!event || event->type() == kevring::event_type::unotify) break;
        if (event->number() != SIGHUP) {
            draining_ = true;
            loops_.drain();
        } else if (!draining_) {
            reload();
        }
    }
    beside.request_stop();
    co_await beside.join();
}

kevring::task<void> server::work(unsigned index) {
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
