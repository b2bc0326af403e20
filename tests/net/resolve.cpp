// Host names are looked up without blocking a loop, and a stop does not wait for the name servers.
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"
#include "tests/support/loop_thread.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_names.hpp"

#include <kevring/net/resolve.hpp>
#include <kevring/runtime/submit.hpp>
#include <kevring/runtime/when.hpp>

#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <netdb.h>
#include <sys/socket.h>

using kevring::endpoint;
using kevring::endpoint_errc;
using kevring::resolve_errc;
using kevring::resolver;
using kevring::resolver_options;
using kevring::result;
using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

namespace {

std::vector<std::string> texts_of(const std::vector<endpoint>& addresses) {
    std::vector<std::string> texts;
    for (const endpoint& each : addresses) texts.push_back(each.to_string());
    return texts;
}

// The addresses of "host", whose port is 80.
task<std::vector<std::string>> texts(resolver& names, std::string host) {
    const auto addresses = co_await names.resolve(host, "80");
    CHECK(addresses.has_value());
    co_return addresses ? texts_of(*addresses) : std::vector<std::string>();
}

task<std::error_code> failure(resolver& names, std::string host, std::string service) {
    const auto addresses = co_await names.resolve(host, service);
    co_return addresses ? std::error_code() : addresses.error();
}

}  // namespace

TEST_CASE("a lookup runs on another thread while the loop continues", "[net][resolve]") {
    ring loop;
    scripted_names source;
    source.set("host", {"192.0.2.1", "[2001:db8::1]", "192.0.2.1"});
    resolver names({}, source);
    int count = 0;
    auto body = [&]() -> task<std::vector<std::string>> {
        source.hold();
        kevring::task_scope side(loop);
        std::vector<std::string> found;
        auto look_up = [&]() -> task<void> { found = co_await texts(names, "host"); };
        side.spawn(look_up());
        source.wait_until_begun(1);
        for (; count < 10; ++count) co_await kevring::yield();
        source.release();
        co_await side.join();
        co_return found;
    };

    CHECK(run_on(loop, body) == std::vector<std::string>{"192.0.2.1:80", "[2001:db8::1]:80"});
    CHECK(count == 10);
}

TEST_CASE("addresses in text form need no lookup, and wrong texts name their part",
          "[net][resolve]") {
    ring loop;
    scripted_names source;
    resolver names({}, source);
    auto body = [&]() -> task<void> {
        {
            const auto seen = co_await texts(names, "192.0.2.7");
            CHECK(seen == std::vector<std::string>{"192.0.2.7:80"});
        }
        {
            const auto seen = co_await texts(names, "2001:db8::7");
            CHECK(seen == std::vector<std::string>{"[2001:db8::7]:80"});
        }
        {
            const auto seen = co_await texts(names, "fe80::7%1");
            CHECK(seen == std::vector<std::string>{"[fe80::7%1]:80"});
        }
        {
            const auto seen = co_await failure(names, "", "80");
            CHECK(seen == endpoint_errc::no_host);
        }
        {
            const auto seen = co_await failure(names, "host", "");
            CHECK(seen == endpoint_errc::no_port);
        }
        {
            const auto seen = co_await failure(names, "host", "65616");
            CHECK(seen == endpoint_errc::bad_port);
        }
        {
            const auto seen = co_await failure(names, "1::2::3", "80");
            CHECK(seen == endpoint_errc::bad_ipv6);
        }
        {
            const auto seen = co_await failure(names, "fe80::7%none", "80");
            CHECK(seen == endpoint_errc::no_interface);
        }
        {
            const auto seen = co_await failure(names, std::string("a\0b", 3), "80");
            CHECK(seen == std::errc::invalid_argument);
        }
        {
            const auto seen = co_await failure(names, std::string(1025, 'a'), "80");
            CHECK(seen == std::errc::invalid_argument);
        }
    };
    run_on(loop, body);

    CHECK(source.begun_count() == 0);
}

TEST_CASE("every error of getaddrinfo reaches the caller with its text", "[net][resolve]") {
    ring loop;
    scripted_names source;
    resolver names({}, source);
    auto body = [&]() -> task<void> {
        for (const int error : {EAI_NONAME, EAI_AGAIN, EAI_FAIL, EAI_NODATA, EAI_FAMILY,
                                EAI_SERVICE, EAI_MEMORY, EAI_SOCKTYPE, EAI_BADFLAGS}) {
            const std::string host = "host" + std::to_string(-error);
            source.fail(host, error);
            const std::error_code failed = co_await failure(names, host, "80");
            CHECK(failed == static_cast<resolve_errc>(-error));
            CHECK(failed.message() == ::gai_strerror(error));
        }
        {
            const auto seen = co_await failure(names, "host3", "80");
            CHECK(seen == std::errc::resource_unavailable_try_again);
        }
        {
            const auto seen = co_await failure(names, "host10", "80");
            CHECK(seen == std::errc::not_enough_memory);
        }
        source.fail("system", EAI_SYSTEM, EMFILE);
        {
            const auto seen = co_await failure(names, "system", "80");
            CHECK(seen == std::errc::too_many_files_open);
        }
        source.fail("no errno", EAI_SYSTEM);
        {
            const auto seen = co_await failure(names, "no errno", "80");
            CHECK(seen == std::errc::io_error);
        }
        source.exhaust_memory("large");
        {
            const auto seen = co_await failure(names, "large", "80");
            CHECK(seen == resolve_errc::no_memory);
        }
        source.set("empty", {});
        {
            const auto seen = co_await failure(names, "empty", "80");
            CHECK(seen == resolve_errc::no_address);
        }
    };
    run_on(loop, body);
}

TEST_CASE("addresses are used again for the configured time, and transient errors are not",
          "[net][resolve]") {
    ring loop;
    scripted_names source;
    source.set("host", {"192.0.2.1"});
    source.fail("busy", EAI_AGAIN);
    resolver names({.cache_time = 30s, .failure_cache_time = 1s}, source);
    resolver uncached({.cache_time = 0s, .failure_cache_time = 0s}, source);
    auto body = [&]() -> task<void> {
        static_cast<void>(co_await texts(names, "host"));
        source.set("host", {"192.0.2.2"});
        source.advance(29'999'999'999);
        {
            const auto seen = co_await texts(names, "host");
            CHECK(seen == std::vector<std::string>{"192.0.2.1:80"});
        }
        CHECK(names.counters().cached_count == 1);
        source.advance(1);
        {
            const auto seen = co_await texts(names, "host");
            CHECK(seen == std::vector<std::string>{"192.0.2.2:80"});
        }
        source.set("host", {"192.0.2.3"});
        names.clear_cache();
        {
            const auto seen = co_await texts(names, "host");
            CHECK(seen == std::vector<std::string>{"192.0.2.3:80"});
        }
        CHECK(source.begun_count() == 3);

        {
            const auto seen = co_await failure(names, "nothing", "80");
            CHECK(seen == resolve_errc::unknown_host);
        }
        {
            const auto seen = co_await failure(names, "nothing", "80");
            CHECK(seen == resolve_errc::unknown_host);
        }
        CHECK(source.begun_count() == 4);
        source.advance(1'000'000'000);
        source.set("nothing", {"192.0.2.4"});
        {
            const auto seen = co_await texts(names, "nothing");
            CHECK(seen == std::vector<std::string>{"192.0.2.4:80"});
        }
        static_cast<void>(co_await failure(names, "busy", "80"));
        static_cast<void>(co_await failure(names, "busy", "80"));
        CHECK(source.begun_count() == 7);

        static_cast<void>(co_await texts(uncached, "host"));
        static_cast<void>(co_await texts(uncached, "host"));
        CHECK(source.begun_count() == 9);
    };
    run_on(loop, body);
}

TEST_CASE("the number of results that are kept is bounded", "[net][resolve]") {
    ring loop;
    scripted_names source;
    for (const char* host : {"a", "b", "c"}) source.set(host, {"192.0.2.1"});
    resolver names({.cache_count_max = 2}, source);
    auto body = [&]() -> task<void> {
        for (const char* host : {"a", "b", "c"}) {
            static_cast<void>(co_await texts(names, host));
            source.advance(1);
        }
        static_cast<void>(co_await texts(names, "c"));
        static_cast<void>(co_await texts(names, "b"));
        CHECK(source.begun_count() == 3);
        static_cast<void>(co_await texts(names, "a"));  // the oldest
        CHECK(source.begun_count() == 4);
    };
    run_on(loop, body);
}

TEST_CASE("coroutines of several loops share one lookup of a name", "[net][resolve]") {
    ring loop;
    scripted_names source;
    source.set("host", {"192.0.2.1"});
    source.hold();
    resolver names({}, source);
    loop_thread other;
    auto body = [&]() -> task<void> {
        kevring::task_scope side(loop);
        auto look_up = [&]() -> task<void> {
            const auto seen = co_await texts(names, "host");
            CHECK(seen == std::vector<std::string>{"192.0.2.1:80"});
        };
        side.spawn(look_up());
        side.spawn(look_up());
        auto remote = kevring::submit(other.loop(), names.resolve("host", "80"));
        while (names.counters().joined_count < 2) co_await kevring::yield();
        source.release();
        const auto found = co_await remote.join();
        CHECK(found.value().size() == 1);
        co_await side.join();
    };
    run_on(loop, body);

    CHECK(source.begun_count() == 1);
}

TEST_CASE("a stop before, during and after a lookup ends the await immediately", "[net][resolve]") {
    ring loop;
    scripted_names source;
    source.set("host", {"192.0.2.1"});
    resolver names({}, source);
    auto body = [&]() -> task<void> {
        kevring::task_scope ended(loop);
        ended.request_stop();
        std::error_code before;
        auto late_look_up = [&]() -> task<void> { before = co_await failure(names, "host", "80"); };
        ended.spawn(late_look_up());
        CHECK(before == std::errc::operation_canceled);
        CHECK(source.begun_count() == 0);

        source.hold();  // the thread is not free before release()
        kevring::task_scope side(loop);
        std::error_code stopped;
        auto look_up = [&]() -> task<void> { stopped = co_await failure(names, "host", "80"); };
        side.spawn(look_up());
        source.wait_until_begun(1);
        side.request_stop();
        co_await side.join();
        CHECK(stopped == std::errc::operation_canceled);
        const auto late = co_await kevring::with_timeout(names.resolve("host", "80"), 1ms);
        CHECK(late.error() == std::errc::timed_out);

        // The lookup that was left fills the cache.
        source.release();
        {
            const auto seen = co_await texts(names, "host");
            CHECK(seen == std::vector<std::string>{"192.0.2.1:80"});
        }
        CHECK(source.begun_count() == 1);
        const auto after = co_await kevring::with_timeout(names.resolve("host", "80"), 1h);
        CHECK(after.has_value());
    };
    run_on(loop, body);
}

TEST_CASE("lookups that wait for a thread are bounded, and stopped ones are withdrawn",
          "[net][resolve]") {
    ring loop;
    scripted_names source;
    for (const char* host : {"a", "b", "c"}) source.set(host, {"192.0.2.1"});
    source.hold();
    resolver names({.thread_count_max = 1, .queue_count_max = 1}, source);
    auto body = [&]() -> task<void> {
        kevring::task_scope side(loop);
        auto look_up = [&]() -> task<void> { static_cast<void>(co_await texts(names, "a")); };
        side.spawn(look_up());
        source.wait_until_begun(1);
        const auto queued = co_await kevring::with_timeout(names.resolve("b", "80"), 1ms);
        CHECK(queued.error() == std::errc::timed_out);
        CHECK(names.counters().withdrawn_count == 1);

        auto wait_for_thread = [&]() -> task<void> {
            static_cast<void>(co_await texts(names, "b"));
        };
        side.spawn(wait_for_thread());
        {
            const auto seen = co_await failure(names, "c", "80");
            CHECK(seen == std::errc::resource_unavailable_try_again);
        }
        source.release();
        co_await side.join();
        {
            const auto seen = co_await texts(names, "c");
            CHECK(seen == std::vector<std::string>{"192.0.2.1:80"});
        }
    };
    run_on(loop, body);

    CHECK(source.begun_count() == 3);
}

TEST_CASE("a ring is destroyed while a lookup runs", "[net][resolve]") {
    scripted_names source;
    source.set("host", {"192.0.2.1"});
    source.hold();
    resolver names({}, source);
    std::error_code failed;
    auto loop = std::make_unique<ring>();
    auto look_up = [&]() -> task<void> { failed = co_await failure(names, "host", "80"); };
    kevring::spawn(*loop, look_up());
    loop->run_once(false);
    source.wait_until_begun(1);

    loop.reset();

    CHECK(failed == std::errc::operation_canceled);
    source.release();
}

TEST_CASE("a resolver of the parent process refuses lookups in a child", "[net][resolve]") {
    scripted_names source;
    source.set("host", {"192.0.2.1"});
    resolver names({}, source);
    const auto child = run_in_child([&] {
        ring loop;
        auto body = [&]() -> task<void> {
            const std::error_code failed = co_await failure(names, "host", "80");
            if (failed != std::errc::operation_not_permitted) ::_exit(1);
        };
        run_on(loop, body);
    });

    CHECK(child.exited(0));
}

TEST_CASE("the system knows its own host", "[net][resolve]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const auto addresses = co_await kevring::resolve("localhost", "80");
        REQUIRE(addresses.has_value());
        for (const endpoint& each : *addresses) {
            CHECK((each.host() == "127.0.0.1" || each.host() == "::1"));
            CHECK(each.port() == 80);
        }
    };
    run_on(loop, body);
}
