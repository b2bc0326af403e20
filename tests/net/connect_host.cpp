// A connection to a host name: its addresses are tried in a staggered race, and all are in the error.
#include "tests/support/catch.hpp"
#include "tests/support/descriptor_count.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/scripted_names.hpp"

#include <kevring/net/connect_host.hpp>
#include <kevring/net/listener.hpp>

#include <cerrno>
#include <cstddef>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <sys/socket.h>
#include <unistd.h>

using kevring::connect_host_options;
using kevring::endpoint;
using kevring::endpoint_errc;
using kevring::resolve_errc;
using kevring::resolver;
using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

namespace {

std::vector<endpoint> parse_all(const std::vector<std::string>& texts) {
    std::vector<endpoint> addresses;
    for (const std::string& each : texts) addresses.push_back(endpoint::parse(each).value());
    return addresses;
}

// 127.0.0.1 with the port of `listening`, and other addresses of this host with the same port.
endpoint same_port(const std::string& host, const kevring::listener& listening) {
    auto address = endpoint::parse(host + ":0").value();
    address.set_port(listening.local().value().port());
    return address;
}

// A socket whose backlog is full: connections to it neither succeed nor fail.
class silent_listener {
public:
    explicit silent_listener(const endpoint& local)
        : listening_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        REQUIRE(::bind(listening_.number(), local.address(), local.address_bytes()) == 0);
        REQUIRE(::listen(listening_.number(), 0) == 0);
        for (int i = 0; i < 4; ++i) {
            auto& each = waiting_.emplace_back(
                ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
            static_cast<void>(::connect(each.number(), local.address(), local.address_bytes()));
        }
    }

private:
    kevring::fd listening_;
    std::vector<kevring::fd> waiting_;
};

constexpr connect_host_options quick{.attempt_delay = 10ms};

// With a delay that no test reaches.
connect_host_options patient() { return {.attempt_delay = 1h}; }

}  // namespace

TEST_CASE("the addresses of both families alternate in their order", "[net][connect_host]") {
    const auto ordered = kevring::interleave_families(parse_all(
        {"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "192.0.2.1:1", "192.0.2.2:1"}));
    CHECK(ordered == parse_all({"[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1", "192.0.2.2:1",
                                "[2001:db8::3]:1"}));
    const auto four_first =
        kevring::interleave_families(parse_all({"192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1"}));
    CHECK(four_first == parse_all({"192.0.2.1:1", "[2001:db8::1]:1", "192.0.2.2:1"}));
    CHECK(kevring::interleave_families({}).empty());
}

TEST_CASE("an address that refuses is followed by the next immediately", "[net][connect_host]") {
    ring loop;
    scripted_names source;
    source.set("host", {"127.0.0.2", "127.0.0.1", "127.0.0.3"});
    resolver names({}, source);
    auto body = [&]() -> task<void> {
        auto listening = kevring::listener::bind(endpoint::loopback(0)).value();
        const std::string target = "host:" + std::to_string(listening.local().value().port());
        auto options = patient();
        options.names = &names;

        auto connected = co_await kevring::connect(target, options);

        REQUIRE(connected.has_value());
        CHECK(connected->peer().value() == listening.local().value());
        REQUIRE(connected.attempts().size() == 2);
        CHECK(connected.attempts()[0].address == same_port("127.0.0.2", listening));
        CHECK(connected.attempts()[0].error == std::errc::connection_refused);
        CHECK_FALSE(connected.attempts()[1].error);
        CHECK(connected.describe().find("127.0.0.1") != std::string::npos);
    };
    run_on(loop, body);
}

TEST_CASE("an address that does not answer is overtaken, and its socket is closed",
          "[net][connect_host]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto listening = kevring::listener::bind(endpoint::loopback(0)).value();
        const silent_listener silent(same_port("127.0.0.2", listening));
        const std::vector<endpoint> addresses{same_port("127.0.0.2", listening),
                                              same_port("127.0.0.1", listening),
                                              same_port("127.0.0.3", listening)};
        const std::size_t before = descriptor_count();

        auto connected = co_await kevring::connect_first(loop, addresses, quick);

        REQUIRE(connected.has_value());
        CHECK(connected->peer().value() == listening.local().value());
        CHECK(descriptor_count() == before + 1);
        REQUIRE(connected.attempts().size() >= 2);
        CHECK(connected.attempts()[0].error == std::errc::operation_canceled);
        CHECK_FALSE(connected.attempts()[1].error);
    };
    run_on(loop, body);
}

TEST_CASE("of two connections at once one is closed", "[net][connect_host]") {
    scripted_kernel script;
    ring loop({}, script);
    auto body = [&]() -> task<void> {
        auto first = kevring::listener::bind(endpoint::loopback(0)).value();
        auto second = kevring::listener::bind(endpoint::loopback(0)).value();
        const std::vector<endpoint> addresses{first.local().value(), second.local().value()};
        const std::size_t before = descriptor_count();
        script.hold(IORING_OP_CONNECT);
        kevring::task_scope side(loop);
        auto act = [&]() -> task<void> {
            while (script.held_count() < 2) static_cast<void>(co_await kevring::sleep_for(1ms));
            script.release();
        };
        side.spawn(act());

        auto connected = co_await kevring::connect_first(loop, addresses, quick);

        co_await side.join();
        REQUIRE(connected.has_value());
        CHECK(descriptor_count() == before + 1);
        REQUIRE(connected.attempts().size() == 2);
        int lost_count = 0;
        for (const auto& each : connected.attempts())
            if (each.error == std::errc::operation_canceled)
                ++lost_count;
            else
                CHECK(each.address == connected->peer().value());
        CHECK(lost_count == 1);
    };
    run_on(loop, body);
}

TEST_CASE("the error has the reason of each address", "[net][connect_host]") {
    scripted_kernel script;
    ring loop({}, script);
    scripted_names source;
    source.set("host", {"192.0.2.1", "192.0.2.2", "192.0.2.3"});
    resolver names({}, source);
    const std::size_t before = descriptor_count();
    auto body = [&]() -> task<void> {
        script.fail(IORING_OP_CONNECT, ENETUNREACH);
        script.fail(IORING_OP_CONNECT, ECONNREFUSED);
        script.fail(IORING_OP_CONNECT, ETIMEDOUT);
        auto options = patient();
        options.names = &names;

        const auto connected = co_await kevring::connect("host:80", options);

        REQUIRE_FALSE(connected.has_value());
        CHECK(connected.error() == std::errc::network_unreachable);  // of the first address
        REQUIRE(connected.attempts().size() == 3);
        CHECK(connected.attempts()[1].error == std::errc::connection_refused);
        CHECK(connected.attempts()[2].error == std::errc::timed_out);
        CHECK(connected.describe() ==
              "host:80: 192.0.2.1:80: Network is unreachable; 192.0.2.2:80: Connection refused; "
              "192.0.2.3:80: Connection timed out");
    };
    run_on(loop, body);
    CHECK(descriptor_count() <= before + 2);  // the ring's own
}

TEST_CASE("every error of connect(2) leads to the next address", "[net][connect_host]") {
    scripted_kernel script;
    ring loop({}, script);
    auto body = [&]() -> task<void> {
        auto listening = kevring::listener::bind(endpoint::loopback(0)).value();
        const std::vector<endpoint> addresses(2, listening.local().value());
        for (const int error : {EACCES, EPERM, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN,
                                EALREADY, EBADF, ECONNREFUSED, EFAULT, EINPROGRESS, EISCONN,
                                ENETUNREACH, EHOSTUNREACH, ENOTSOCK, EPROTOTYPE, ETIMEDOUT}) {
            script.fail(IORING_OP_CONNECT, error);
            auto connected = co_await kevring::connect_first(loop, addresses, patient());
            REQUIRE(connected.has_value());
            CHECK(connected.attempts()[0].error.value() == error);
            auto accepted = co_await listening.accept();
            CHECK(accepted.has_value());
        }
    };
    run_on(loop, body);
}

TEST_CASE("a stop before, during and after a connect", "[net][connect_host]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto listening = kevring::listener::bind(endpoint::loopback(0)).value();
        const silent_listener first(same_port("127.0.0.2", listening));
        const silent_listener second(same_port("127.0.0.3", listening));
        const std::vector<endpoint> silent{same_port("127.0.0.2", listening),
                                           same_port("127.0.0.3", listening)};
        const std::size_t count = descriptor_count();

        kevring::task_scope ended(loop);
        ended.request_stop();
        auto late_connect = [&]() -> task<void> {
            const auto before = co_await kevring::connect_first(loop, silent);
            CHECK(before.error() == std::errc::operation_canceled);
            CHECK(before.attempts().empty());
        };
        ended.spawn(late_connect());
        CHECK(ended.active_count() == 0);

        const auto during =
            co_await kevring::with_timeout(kevring::connect_first(loop, silent, quick), 50ms);
        CHECK(during.error() == std::errc::timed_out);
        REQUIRE_FALSE(during.attempts().empty());
        for (const auto& each : during.attempts()) CHECK(each.error == std::errc::timed_out);
        CHECK(descriptor_count() == count);

        std::vector<endpoint> only(1, listening.local().value());
        const auto after = co_await kevring::with_timeout(kevring::connect_first(loop, only), 1h);
        CHECK(after.has_value());
    };
    run_on(loop, body);
}

TEST_CASE("a target that is wrong is refused with the part that is wrong", "[net][connect_host]") {
    ring loop;
    scripted_names source;
    source.set("host", {"127.0.0.1"});
    source.fail("busy", EAI_AGAIN);
    resolver names({}, source);
    auto body = [&]() -> task<void> {
        const std::pair<const char*, std::error_code> cases[] = {
            {"host", endpoint_errc::no_port},        {"host:65536", endpoint_errc::bad_port},
            {"host:", endpoint_errc::bad_port},      {":80", endpoint_errc::no_host},
            {"http://host", endpoint_errc::url},     {"[::1:80", endpoint_errc::open_bracket},
            {"::1:80", endpoint_errc::no_brackets},  {"[1::2::3]:80", endpoint_errc::bad_ipv6},
            {"1.2.3:80", endpoint_errc::bad_ipv4},   {"unix:", endpoint_errc::no_path},
            {"none:80", resolve_errc::unknown_host}, {"busy:80", resolve_errc::try_again}};
        for (const auto& [target, error] : cases) {
            CAPTURE(target);
            connect_host_options options;
            options.names = &names;
            const auto connected = co_await kevring::connect(target, options);
            REQUIRE_FALSE(connected.has_value());
            CHECK(connected.error() == error);
            CHECK(connected.attempts().empty());
            CHECK(connected.describe() == std::string(target) + ": " + error.message());
        }
    };
    run_on(loop, body);
}

TEST_CASE("a target may be an address, a Unix name or a name of this host", "[net][connect_host]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const std::string name = "unix:@kevring-host-" + std::to_string(::getpid());
        auto local = kevring::listener::bind(endpoint::parse(name).value()).value();
        const auto by_name = co_await kevring::connect(name);
        CHECK(by_name.has_value());
        auto listening = kevring::listener::bind(endpoint::loopback(0)).value();
        const std::string port = std::to_string(listening.local().value().port());
        const auto by_address = co_await kevring::connect("127.0.0.1:" + port);
        CHECK(by_address.has_value());
        const auto by_host = co_await kevring::connect("localhost:" + port);
        CHECK(by_host.has_value());
    };
    run_on(loop, body);
}

TEST_CASE("the number of addresses that are tried is bounded", "[net][connect_host]") {
    scripted_kernel script;
    ring loop({}, script);
    auto body = [&]() -> task<void> {
        const std::vector<endpoint> addresses(100, endpoint::loopback(1));
        const std::vector<endpoint> no_addresses;
        script.fail(IORING_OP_CONNECT, ECONNREFUSED, 100);
        auto options = patient();
        options.attempt_count_max = 3;
        const auto connected = co_await kevring::connect_first(loop, addresses, options);
        CHECK(connected.attempts().size() == 3);
        const auto none = co_await kevring::connect_first(loop, no_addresses, options);
        CHECK(none.error() == resolve_errc::no_address);
    };
    run_on(loop, body);
}
