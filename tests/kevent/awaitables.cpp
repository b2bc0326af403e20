// awaitables.cpp: events awaited without a queue: timers, descriptors, signals, changes, ends of
// processes.
#include "tests/kevent/kevent_fixture.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/kevent/awaitables.hpp>
#include <kevring/runtime/when.hpp>

#include <filesystem>
#include <fstream>
#include <stop_token>
#include <string>
#include <vector>

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

using kevring::change;
using kevring::change_kind;
using kevring::change_stream;
using kevring::changes;
using kevring::exit_status;
using kevring::readable;
using kevring::ring;
using kevring::signal_info;
using kevring::signal_set;
using kevring::signal_stream;
using kevring::signals;
using kevring::task;
using kevring::timer;
using kevring::wait_for_exit;
using kevring::writable;
using namespace std::chrono_literals;

namespace {

// Blocks signals for the length of a test, and takes those still pending at the end.
class blocked_signals {
public:
    explicit blocked_signals(std::initializer_list<int> numbers) {
        ::sigemptyset(&set_);
        for (const int number : numbers) ::sigaddset(&set_, number);
        ::pthread_sigmask(SIG_BLOCK, &set_, &before_);
    }
    blocked_signals(const blocked_signals&) = delete;
    ~blocked_signals() {
        const timespec at_once{};
        while (::sigtimedwait(&set_, nullptr, &at_once) > 0) {}
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

private:
    sigset_t set_;
    sigset_t before_;
};

class folder {
public:
    folder() {
        std::string name = (std::filesystem::temp_directory_path() / "kevring-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    folder(const folder&) = delete;
    ~folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    std::string path() const { return path_.string(); }
    std::string file(const char* name) const { return (path_ / name).string(); }
    void write(const char* name) const { std::ofstream(path_ / name) << "bytes"; }
    void rename(const char* from, const char* to) const {
        std::filesystem::rename(path_ / from, path_ / to);
    }
    void remove(const char* name) const { std::filesystem::remove(path_ / name); }

private:
    std::filesystem::path path_;
};

// A child that waits for a byte, and then ends by `end`.
class child {
public:
    template <class End>
    explicit child(End end) {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        const kevring::fd wait_end(ends[0]);
        start_.reset(ends[1]);
        process_ = ::fork();
        REQUIRE(process_ >= 0);
        if (process_ == 0) {
            start_.reset();
            char byte = 0;
            static_cast<void>(!::read(wait_end.number(), &byte, 1));
            end();
            ::_exit(99);
        }
    }
    child(const child&) = delete;
    ~child() {
        let_end();
        if (process_ > 0) ::waitpid(process_, nullptr, 0);  // fails if the child was reaped
    }
    pid_t process() const { return process_; }
    // A byte and not the end of the pipe: children that start later hold the pipe open too.
    void let_end() {
        if (start_) static_cast<void>(!::write(start_.number(), "x", 1));
        start_.reset();
    }

private:
    pid_t process_ = -1;
    kevring::fd start_;
};

template <class Awaitable>
task<void> stopped_by_deadline(Awaitable made) {
    const auto got = co_await kevring::with_timeout(std::move(made), 1ms);
    REQUIRE_FALSE(got.has_value());
    CHECK(got.error() == std::errc::timed_out);
}

template <class Awaitable>
task<void> stopped_by_token(Awaitable made) {
    std::stop_source stop;
    stop.request_stop();
    const auto got = co_await kevring::with_stop(std::move(made), stop.get_token());
    REQUIRE_FALSE(got.has_value());
    CHECK(got.error() == std::errc::operation_canceled);
}

}  // namespace

TEST_CASE("a timer that is awaited ends when its time has come", "[kevent][awaitables]") {
    ring loop;
    auto body = []() -> task<void> {
        const auto before = std::chrono::steady_clock::now();
        const auto ended = co_await timer(2ms);
        CHECK(ended.has_value());
        CHECK(std::chrono::steady_clock::now() - before >= 2ms);
        co_await stopped_by_deadline(timer(1h));
        co_await stopped_by_token(timer(1h));
    };
    run_on(loop, body);
}

TEST_CASE("readiness is awaited, and reports the ready bits", "[kevent][awaitables]") {
    ring loop;
    auto ends = kevent_test::connected_pair::sockets();
    auto body = [&]() -> task<void> {
        const kevring::fd_ref local(ends.local());
        const auto room = co_await writable(local);
        CHECK(room.value() == POLLOUT);

        co_await stopped_by_deadline(readable(local));
        co_await stopped_by_token(readable(local));

        ends.send_from_peer(1);
        const auto bytes = co_await readable(local);
        CHECK(bytes.value() == POLLIN);

        ends.drain_local();
        ends.close_peer();
        const auto end = co_await readable(local);
        CHECK((end.value() & POLLHUP) != 0);
    };
    run_on(loop, body);
}

TEST_CASE("a signal is taken in place of a handler", "[kevent][awaitables][signal]") {
    const blocked_signals keep{SIGUSR1, SIGUSR2};
    ring loop;
    auto body = []() -> task<void> {
        SECTION("one that is pending already") {
            ::kill(::getpid(), SIGUSR2);
            const auto got = co_await signals(SIGUSR1, SIGUSR2);
            REQUIRE(got.has_value());
            CHECK(got->number == SIGUSR2);
            CHECK(got->code == SI_USER);
            CHECK(got->sender == ::getpid());
            CHECK(got->sender_user == ::getuid());
        }
        SECTION("one that comes while it is waited for") {
            auto wait = []() -> task<int> {
                const signal_set wanted{SIGUSR1};
                const auto got = co_await signals(wanted);
                co_return got.value().number;
            };
            auto send = []() -> task<int> {
                co_await kevring::yield();
                co_await kevring::yield();
                ::kill(::getpid(), SIGUSR1);
                co_return 0;
            };
            const auto [number, sent] = co_await kevring::when_all(wait(), send());
            CHECK(number == SIGUSR1);
            CHECK(sent == 0);
        }
        SECTION("a wait that is stopped takes none") {
            co_await stopped_by_deadline(signals(SIGUSR1));
            co_await stopped_by_token(signals(SIGUSR1));
            ::kill(::getpid(), SIGUSR1);
            co_await stopped_by_token(signals(SIGUSR1));
            const auto got = co_await signals(SIGUSR1);
            CHECK(got.value().number == SIGUSR1);
        }
    };
    run_on(loop, body);
}

TEST_CASE("signals that arrive between two waits are kept", "[kevent][awaitables][signal]") {
    const blocked_signals keep{SIGUSR1, SIGUSR2, SIGRTMIN};
    ring loop;
    auto body = []() -> task<void> {
        auto stream = signal_stream::open({SIGUSR1, SIGUSR2, SIGRTMIN});
        REQUIRE(stream.has_value());
        for (int round = 0; round < 3; ++round) {
            for (int value = 0; value < 5; ++value)
                REQUIRE(::sigqueue(::getpid(), SIGRTMIN, sigval{value}) == 0);
            ::kill(::getpid(), SIGUSR1);

            const auto first = co_await stream->next();
            CHECK(first.value().number == SIGUSR1);  // lower numbers come first
            for (int value = 0; value < 5; ++value) {
                const auto queued = co_await stream->next();
                CHECK(queued.value().number == SIGRTMIN);
                CHECK(queued.value().code == SI_QUEUE);
                CHECK(queued.value().value == value);
            }
        }
        co_await stopped_by_deadline(stream->next());
    };
    run_on(loop, body);
}

TEST_CASE("signal numbers that cannot be waited for are refused", "[kevent][awaitables][signal]") {
    sigset_t before;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &before);
    for (const signal_set wrong :
         {signal_set{}, signal_set{0}, signal_set{-1}, signal_set{65}, signal_set{SIGKILL},
          signal_set{SIGUSR1, SIGSTOP}, signal_set{SIGUSR1, 32}}) {
        const auto opened = signal_stream::open(wrong);
        REQUIRE_FALSE(opened.has_value());
        CHECK(opened.error() == std::errc::invalid_argument);
        CHECK_FALSE(wrong.block().has_value());
    }
    sigset_t after;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &after);
    CHECK(::sigismember(&after, SIGUSR1) == ::sigismember(&before, SIGUSR1));
}

TEST_CASE("changes come in their order, with names", "[kevent][awaitables][changes]") {
    ring loop;
    const folder there;
    auto body = [&]() -> task<void> {
        auto stream = change_stream::open();
        REQUIRE(stream.has_value());
        const auto watch = stream->add(there.path());
        REQUIRE(watch.has_value());
        auto expect = [&](change_kind kind, const char* name) -> task<change> {
            const auto got = co_await stream->next();
            REQUIRE(got.has_value());
            CHECK(got->kinds == kind);
            CHECK(got->name == name);
            CHECK(got->path == there.path());
            CHECK(got->watch == *watch);
            co_return *got;
        };

        there.write("one");
        std::filesystem::create_directory(there.file("below"));
        there.rename("one", "two");
        there.remove("two");

        static_cast<void>(co_await expect(change_kind::created, "one"));
        static_cast<void>(co_await expect(change_kind::written, "one"));
        static_cast<void>(co_await expect(change_kind::created | change_kind::directory, "below"));
        const auto from = co_await expect(change_kind::moved_from, "one");
        const auto to = co_await expect(change_kind::moved_to, "two");
        CHECK(from.cookie == to.cookie);
        CHECK(from.cookie != 0);
        static_cast<void>(co_await expect(change_kind::removed, "two"));
        co_await stopped_by_deadline(stream->next());
    };
    run_on(loop, body);
}

TEST_CASE("a watch reports the removal of its file", "[kevent][awaitables][changes]") {
    ring loop;
    const folder there;
    there.write("file");
    auto body = [&]() -> task<void> {
        auto stream = change_stream::open();
        REQUIRE(stream.has_value());
        const auto watch = stream->add(there.file("file"), change_kind::written);
        REQUIRE(watch.has_value());

        there.remove("file");

        const auto got = co_await stream->next();
        REQUIRE(got.has_value());
        CHECK(got->kinds == change_kind::gone);
        CHECK(got->path == there.file("file"));
        CHECK(got->watch == *watch);
        CHECK(stream->watch_count() == 0);
    };
    run_on(loop, body);
}

TEST_CASE("a removed watch reports nothing", "[kevent][awaitables][changes]") {
    ring loop;
    const folder left;
    const folder kept;
    auto body = [&]() -> task<void> {
        auto stream = change_stream::open();
        REQUIRE(stream.has_value());
        const auto first = stream->add(left.path());
        REQUIRE(stream->add(kept.path(), change_kind::created).has_value());
        left.write("file");
        kept.write("file");

        stream->remove(first.value());
        stream->remove(first.value());  // a repeated call has no effect

        const auto got = co_await stream->next();
        CHECK(got.value().path == kept.path());
        co_await stopped_by_deadline(stream->next());
        CHECK(stream->watch_count() == 1);
    };
    run_on(loop, body);
}

TEST_CASE("an overflow of the kernel's queue is a change", "[kevent][awaitables][changes]") {
    std::size_t queue_max = 0;
    std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> queue_max;
    REQUIRE(queue_max > 0);
    if (queue_max > 100'000) return;  // would take long
    ring loop;
    const folder there;
    there.write("a");
    auto body = [&]() -> task<void> {
        auto stream = change_stream::open();
        REQUIRE(stream.has_value());
        REQUIRE(stream->add(there.path(), change_kind::moved_from | change_kind::moved_to));
        const std::string one = there.file("a");
        const std::string other = there.file("b");
        for (std::size_t i = 0; i <= queue_max / 4; ++i) {
            ::rename(one.c_str(), other.c_str());
            ::rename(other.c_str(), one.c_str());
        }

        std::size_t reported = 0;
        while (true) {
            const auto got = co_await stream->next();
            REQUIRE(got.has_value());
            if (got->kinds == change_kind::lost) {
                CHECK(got->watch == -1);
                break;
            }
            ++reported;
        }
        CHECK(reported == queue_max);

        there.rename("a", "c");
        const auto later = co_await stream->next();
        CHECK(later.value().kinds == change_kind::moved_from);
    };
    run_on(loop, body);
}

TEST_CASE("one change is awaited by itself", "[kevent][awaitables][changes]") {
    ring loop;
    const folder there;
    there.write("file");
    auto body = [&]() -> task<void> {
        auto wait = [&]() -> task<change> {
            const auto got = co_await changes(there.path());
            co_return got.value();
        };
        auto act = [&]() -> task<int> {
            co_await kevring::yield();
            there.write("other");
            co_return 0;
        };
        const auto [got, acted] = co_await kevring::when_all(wait(), act());
        CHECK(got.kinds == change_kind::created);
        CHECK(got.name == "other");
        CHECK(acted == 0);

        co_await stopped_by_deadline(changes(there.path()));
        co_await stopped_by_token(changes(there.path()));
        const auto nowhere = co_await changes(there.file("nowhere"));
        CHECK(nowhere.error() == std::errc::no_such_file_or_directory);
        const auto nothing = co_await changes(there.path(), change_kind::none);
        CHECK(nothing.error() == std::errc::invalid_argument);
    };
    run_on(loop, body);
}

TEST_CASE("the end of a process is awaited, and reaps it", "[kevent][awaitables][process]") {
    ring loop;
    child by_itself([] { ::_exit(7); });
    child by_signal([] { ::raise(SIGKILL); });
    auto body = [&]() -> task<void> {
        co_await stopped_by_deadline(wait_for_exit(by_itself.process()));
        co_await stopped_by_token(wait_for_exit(by_itself.process()));

        by_itself.let_end();
        const auto code = co_await wait_for_exit(by_itself.process());
        REQUIRE(code.has_value());
        CHECK(code->kind == exit_status::exit_kind::exited);
        CHECK(code->code == 7);
        CHECK(code->process == by_itself.process());
        CHECK_FALSE(code->success());

        by_signal.let_end();
        const auto killed = co_await wait_for_exit(by_signal.process());
        REQUIRE(killed.has_value());
        CHECK(killed->kind == exit_status::exit_kind::killed);
        CHECK(killed->code == SIGKILL);

        CHECK(::waitpid(by_itself.process(), nullptr, WNOHANG) == -1);
        const auto again = co_await wait_for_exit(by_itself.process());
        CHECK(again.error() == std::errc::no_such_process);
    };
    run_on(loop, body);
}

TEST_CASE("a process that is no child reports only its end", "[kevent][awaitables][process]") {
    ring loop;
    // The child starts a process, reports its number, and waits for it.
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const kevring::fd number_source(ends[0]);
    kevring::fd said(ends[1]);
    child parent([&] {
        const pid_t grandchild = ::fork();
        if (grandchild == 0) {
            ::pause();
            ::_exit(0);
        }
        static_cast<void>(!::write(said.number(), &grandchild, sizeof grandchild));
        ::waitpid(grandchild, nullptr, 0);
        ::_exit(0);
    });
    parent.let_end();
    pid_t stranger = 0;
    REQUIRE(::read(number_source.number(), &stranger, sizeof stranger) == sizeof stranger);
    auto body = [&]() -> task<void> {
        co_await stopped_by_deadline(wait_for_exit(stranger));
        auto wait = [&]() -> task<exit_status> {
            const auto got = co_await wait_for_exit(stranger);
            co_return got.value();
        };
        auto act = [&]() -> task<int> {
            co_await kevring::yield();
            co_return ::kill(stranger, SIGKILL);
        };
        const auto [status, killed] = co_await kevring::when_all(wait(), act());
        CHECK(killed == 0);
        CHECK(status.kind == exit_status::exit_kind::unknown);
        CHECK(status.process == stranger);
    };
    run_on(loop, body);
}
