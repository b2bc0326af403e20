// main.cpp: sets the server up: settings, sockets, loops, and what signals ask for.
#include "access_log.hpp"
#include "inheritance.hpp"
#include "metrics_server.hpp"
#include "settings.hpp"
#include "worker.hpp"

#include <kevring/net/listener.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/sleep.hpp>
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
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/signalfd.h>
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

/// The server's loops, as the control loop sees them. Outlives the loops, and with it what is on
/// its way to them.
class crew final : public httpd::report_source {
public:
    explicit crew(unsigned worker_count) : members_(worker_count), left_count_(worker_count) {}

    kevring::task<void> refresh() override;
    const httpd::report_slot& slot(std::size_t index) const noexcept override {
        return members_[index].last;
    }
    std::size_t slot_count() const noexcept override { return members_.size(); }
    httpd::report_slot& slot(unsigned index) noexcept { return members_[index].last; }

    // Called on the worker's loop.
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
        if (--left_count_ == 0 && control_ != nullptr) control_->post(all_left_);
    }

    // Called on the control loop.
    void control_begins(kevring::ring& on) {
        const std::lock_guard lock(mutex_);
        control_ = &on;
        all_left_.until = &on.root_scope();
        if (left_count_ == 0) control_->post(all_left_);
    }
    void control_ends() noexcept {
        const std::lock_guard lock(mutex_);
        control_ = nullptr;
    }
    void drain() noexcept {
        const std::lock_guard lock(mutex_);
        draining_ = true;
        for (member& each : members_)
            if (each.on != nullptr) each.drain.send(*each.on);
    }
    void reopen_logs() noexcept {
        const std::lock_guard lock(mutex_);
        for (member& each : members_)
            if (each.on != nullptr) each.reopen.send(*each.on);
    }

private:
    struct member {
        request_to_loop drain{[](worker& on) noexcept { on.drain(); }};
        request_to_loop reopen{[](worker& on) noexcept { on.reopen(); }};
        request_to_loop report{[](worker& on) noexcept { on.report(); }};
        httpd::report_slot last;
        kevring::ring* on = nullptr;  // null before join() and after leave()
    };
    struct end_of_control : kevring::work {
        end_of_control() noexcept : work(arrived) {}
        static void arrived(work& self) noexcept {
            static_cast<end_of_control&>(self).until->request_stop();
        }
        kevring::cancel_scope* until = nullptr;
    };

    std::deque<member> members_;
    // Guarded by mutex_: what follows, and `on` of each member.
    std::mutex mutex_;
    unsigned left_count_;
    bool draining_ = false;
    kevring::ring* control_ = nullptr;
    end_of_control all_left_;
};

kevring::task<void> crew::refresh() {
    std::vector<std::uint64_t> before;
    for (const member& each : members_) before.push_back(each.last.number());
    const auto ask_for_missing = [&](bool ask) noexcept {
        const std::lock_guard lock(mutex_);
        std::size_t missing = 0;
        for (std::size_t i = 0; i < members_.size(); ++i) {
            if (members_[i].on == nullptr || members_[i].last.number() != before[i]) continue;
            ++missing;
            if (ask) members_[i].report.send(*members_[i].on);
        }
        return missing;
    };
    std::size_t missing = ask_for_missing(true);
    for (int waited_ms = 0; missing > 0 && waited_ms < 1000; ++waited_ms) {
        const auto slept = co_await kevring::sleep_for(std::chrono::milliseconds(1));
        if (!slept) break;
        missing = ask_for_missing(false);
    }
}

// Blocked in every thread, they arrive at the control loop's descriptor.
kevring::fd take_signals() {
    sigset_t wanted;
    sigemptyset(&wanted);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&wanted, number);
    ::pthread_sigmask(SIG_BLOCK, &wanted, nullptr);
    kevring::fd taken(::signalfd(-1, &wanted, SFD_CLOEXEC));
    if (!taken) throw std::system_error(errno, std::system_category(), "signalfd");
    return taken;
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
    const kevring::fd signals = take_signals();
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
    all.loops.control_begins(on);
    while (true) {
        signalfd_siginfo arrived{};
        const std::span<signalfd_siginfo, 1> one(&arrived, 1);
        kevring::read_operation read(on, all.signals, std::as_writable_bytes(one));
        const auto got = co_await read;
        if (!got) break;
        if (arrived.ssi_signo == SIGHUP)
            all.loops.reopen_logs();
        else
            all.loops.drain();
    }
    all.loops.control_ends();
    beside.request_stop();
    co_await beside.join();
}

}  // namespace

int main(int argc, char** argv) try {
    httpd::settings options;
    if (const auto ends = httpd::read_settings(argc, argv, options)) return *ends;
    std::signal(SIGPIPE, SIG_IGN);
    const unsigned worker_count = options.thread_count != 0 ? options.thread_count : core_count();
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
