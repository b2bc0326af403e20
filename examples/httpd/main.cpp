// main.cpp: sets the server up: settings, sockets, loops, and what signals ask for.
#include "access_log.hpp"
#include "descriptors.hpp"
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
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <deque>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

using httpd::worker;

unsigned core_count() noexcept {
    cpu_set_t allowed;
    if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
    return static_cast<unsigned>(std::max(1, CPU_COUNT(&allowed)));
}

/// The listening sockets of all loops: bound before any loop begins, so that a port in use is said
/// at once and with its name.
class doors {
public:
    doors(const httpd::settings& options, unsigned worker_count) : of_worker_(worker_count) {
        std::vector<kevring::fd> inherited = httpd::take_inherited_sockets();
        for (kevring::fd& each : inherited) share(std::move(each));
        if (inherited.empty() || options.listen_given)
            for (const std::string& text : options.listen) bind(text);
    }
    doors(const doors&) = delete;
    doors& operator=(const doors&) = delete;
    ~doors() {
        for (const std::string& path : unix_paths_) ::unlink(path.c_str());
    }

    std::vector<kevring::listener> take(kevring::ring& on, unsigned worker_index) {
        std::vector<kevring::listener> taken;
        for (kevring::fd& each : of_worker_[worker_index]) taken.emplace_back(on, std::move(each));
        return taken;
    }
    const std::vector<kevring::endpoint>& addresses() const noexcept { return addresses_; }

private:
    // One socket from which all loops accept.
    void share(kevring::fd listening) {
        kevring::endpoint where;
        socklen_t bytes = kevring::endpoint::capacity();
        ::getsockname(listening.number(), where.address(), &bytes);
        where.set_address_bytes(bytes);
        addresses_.push_back(where);
        for (std::size_t i = 1; i < of_worker_.size(); ++i)
            of_worker_[i].emplace_back(::fcntl(listening.number(), F_DUPFD_CLOEXEC, 0));
        of_worker_.front().push_back(std::move(listening));
    }

    void bind(const std::string& text) {
        auto where =
            kevring::value_or_throw(kevring::endpoint::parse(text), ("--listen " + text).c_str());
        const bool shared = where.family() == AF_UNIX;
        const bool several = of_worker_.size() > 1;
        kevring::listener_options options;
        options.reuse_port = several && !shared;
        for (std::vector<kevring::fd>& own : of_worker_) {
            if (shared && &own != &of_worker_.front()) {
                // A Unix address has one socket, from which all loops accept.
                own.emplace_back(::fcntl(of_worker_.front().back().number(), F_DUPFD_CLOEXEC, 0));
                continue;
            }
            own.push_back(kevring::value_or_throw(kevring::open_listening_socket(where, options),
                                                  ("--listen " + text).c_str()));
            if (&own != &of_worker_.front()) continue;
            socklen_t bytes = kevring::endpoint::capacity();
            ::getsockname(own.back().number(), where.address(), &bytes);
            where.set_address_bytes(bytes);  // the port that port 0 became, for the others
            addresses_.push_back(where);
            if (!where.path().empty()) unix_paths_.emplace_back(where.path());
        }
    }

    std::vector<std::vector<kevring::fd>> of_worker_;
    std::vector<kevring::endpoint> addresses_;
    std::vector<std::string> unix_paths_;
};

// What the loops tell the control loop: notes of its queue.
constexpr kevring::note all_have_left{1};
constexpr kevring::note reported{2};

/// Something that other threads ask of a loop, any number of times; asked again before it has been
/// done, it is done once.
class request_to_loop : private kevring::work {
public:
    using function = void (*)(worker&) noexcept;
    explicit request_to_loop(function what) noexcept : work(arrived), what_(what) {}

    void send(kevring::ring& to) noexcept {
        // acq_rel: pairs with the same in arrived(); the item is in one mailbox at most.
        if (!pending_.exchange(true, std::memory_order_acq_rel)) to.post(*this);
    }

    worker* target = nullptr;  // written and read on its loop; null once it has left

private:
    static void arrived(work& item) noexcept {
        auto& self = static_cast<request_to_loop&>(item);
        self.pending_.exchange(false, std::memory_order_acq_rel);
        if (self.target != nullptr) self.what_(*self.target);
    }

    const function what_;
    std::atomic<bool> pending_{false};
};

/// The server's loops, as the control loop sees them, and the queue in which all that it waits for
/// arrives: signals, and notes from the loops. Outlives the loops, and with it what is on its way
/// to them.
class crew final : public httpd::report_source {
public:
    explicit crew(unsigned worker_count) : members_(worker_count), left_count_(worker_count) {
        const kevring::signal_set signals{SIGINT, SIGTERM, SIGHUP};
        kevring::value_or_throw(signals.block(), "signals");  // in all threads that will be
        for (const int number : {SIGINT, SIGTERM, SIGHUP})
            kevring::value_or_throw(events_.add(kevring::signal(number)), "signals");
        kevring::value_or_throw(events_.add(all_have_left), "the control queue");
        kevring::value_or_throw(reports_.add(reported), "the queue of reports");
        for (member& each : members_) each.last.tell([this] { reports_.notify(reported); });
    }

    kevring::task<void> refresh() override;
    const httpd::report_slot& slot(std::size_t index) const noexcept override {
        return members_[index].last;
    }
    std::size_t slot_count() const noexcept override { return members_.size(); }

    // Called on the worker's loop.

    httpd::report_slot& slot(unsigned index) noexcept { return members_[index].last; }
    void join(unsigned index, worker& who) {
        member& self = members_[index];
        self.drain.target = self.reopen.target = self.report.target = &who;
        const std::lock_guard lock(mutex_);
        self.on = &who.on();
        if (draining_) self.drain.send(*self.on);
    }
    void leave(unsigned index) noexcept {
        member& self = members_[index];
        self.drain.target = self.reopen.target = self.report.target = nullptr;
        const std::lock_guard lock(mutex_);
        self.on = nullptr;
        if (--left_count_ == 0) events_.notify(all_have_left);
        reports_.notify(reported);  // who waits for this loop's report waits no more
    }

    // Called on the control loop.

    kevring::task<void> obey();

private:
    struct member {
        request_to_loop drain{[](worker& on) noexcept { on.drain(); }};
        request_to_loop reopen{[](worker& on) noexcept { on.reopen(); }};
        request_to_loop report{[](worker& on) noexcept { on.report(); }};
        httpd::report_slot last;
        kevring::ring* on = nullptr;  // null before join() and after leave()
    };

    void ask_all(request_to_loop member::* what) noexcept {
        const std::lock_guard lock(mutex_);
        if (what == &member::drain) draining_ = true;
        for (member& each : members_)
            if (each.on != nullptr) (each.*what).send(*each.on);
    }
    bool all_have_reported(const std::vector<std::uint64_t>& after) noexcept {
        const std::lock_guard lock(mutex_);
        for (std::size_t i = 0; i < members_.size(); ++i)
            if (members_[i].on != nullptr && members_[i].last.number() == after[i]) return false;
        return true;
    }

    kevring::event_queue events_;
    kevring::event_queue reports_;
    std::deque<member> members_;
    // Guarded by mutex_: what follows, and `on` of each member.
    std::mutex mutex_;
    unsigned left_count_;
    bool draining_ = false;
};

// Until all loops have left, or the run is stopped because one of them failed.
kevring::task<void> crew::obey() {
    while (true) {
        const auto event = co_await events_.next();
        if (!event || event->type() == kevring::event_type::unotify) co_return;
        ask_all(event->number() == SIGHUP ? &member::reopen : &member::drain);
    }
}

// A loop that is too busy to answer in time is shown as it was.
kevring::task<void> crew::refresh() {
    std::vector<std::uint64_t> before;
    for (const member& each : members_) before.push_back(each.last.number());
    const auto limit = co_await kevring::within(std::chrono::seconds(1));
    ask_all(&member::report);
    while (!all_have_reported(before)) {
        const auto one = co_await reports_.next();
        if (!one) co_return;
    }
}

struct program {
    program(httpd::settings with, unsigned worker_count)
        : options(std::move(with)),
          shared(options),
          listening(options, worker_count),
          loops(worker_count) {
        if (options.metrics.empty()) return;
        const std::string name = "--metrics " + options.metrics;
        const auto where =
            kevring::value_or_throw(kevring::endpoint::parse(options.metrics), name.c_str());
        metrics = kevring::value_or_throw(kevring::open_listening_socket(where), name.c_str());
    }

    const httpd::settings options;
    httpd::shared_state shared;
    doors listening;
    crew loops;
    kevring::fd metrics;  // taken by the control loop
};

kevring::task<void> work(program& all, unsigned index) {
    kevring::ring& on = *kevring::ring::current();
    httpd::access_log log(all.options.access_log, all.options.log_format);
    worker own(on, all.shared, all.listening.take(on, index), log, all.loops.slot(index));
    all.loops.join(index, own);
    std::exception_ptr failure;
    try {
        co_await own.serve();
    } catch (...) {
        failure = std::current_exception();
    }
    all.loops.leave(index);
    if (failure) std::rethrow_exception(failure);
}

kevring::task<void> control(program& all) {
    kevring::ring& on = *kevring::ring::current();
    kevring::cancel_scope& outer = co_await kevring::current_scope();
    kevring::task_scope beside(on, &outer);
    if (all.metrics)
        beside.spawn(
            httpd::serve_metrics(kevring::listener(on, std::move(all.metrics)), all.loops));
    co_await all.loops.obey();
    beside.request_stop();
    co_await beside.join();
}

}  // namespace

int main(int argc, char** argv) try {
    httpd::settings options;
    if (const auto ends = httpd::read_settings(argc, argv, options)) return *ends;
    std::signal(SIGPIPE, SIG_IGN);
    const unsigned worker_count = options.thread_count != 0 ? options.thread_count : core_count();
    httpd::fit_to_descriptors(options, worker_count);
    program all(std::move(options), worker_count);
    httpd::become(all.options.user);
    for (const kevring::endpoint& where : all.listening.addresses())
        std::fprintf(stderr, "httpd: serving %s at %s%s\n", all.options.root.c_str(),
                     where.family() == AF_UNIX ? "" : "http://", where.to_string().c_str());

    kevring::run(worker_count + 1,
                 [&](unsigned index) { return index == 0 ? control(all) : work(all, index - 1); });
    return 0;
} catch (const std::exception& failure) {
    std::fprintf(stderr, "httpd: %s\n", failure.what());
    return 1;
}
