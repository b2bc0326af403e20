#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"

#include <kevring/net/byte_reader.hpp>
#include <kevring/net/connect.hpp>
#include <kevring/net/listener.hpp>
#include <kevring/net/socket.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

using kevring::endpoint;
using kevring::result;
using kevring::task;
using kevring::task_scope;
using namespace std::chrono_literals;

namespace {

// Runs `body(ring)` with an end in time: a test that hangs fails here.
template <class Body>
void on_a_ring(Body body) {
    kevring::ring loop;
    kevring::run(loop, kevring::with_timeout(body(loop), 60s));
}

struct both_ends {
    kevring::socket local;
    kevring::socket peer;
};

task<both_ends> connected(kevring::ring& loop, kevring::listener& accepting) {
    const auto where = accepting.local().value();
    auto dialled = co_await kevring::connect(loop, where);
    auto accepted = co_await accepting.accept();
    co_return both_ends{std::move(dialled.value()), std::move(accepted.value())};
}

task<std::string> receive_all(kevring::socket& from) {
    std::string all;
    while (true) {
        const auto got = co_await from.receive();
        if (!got || got->empty()) break;
        all.append(reinterpret_cast<const char*>(got->data()), got->size());
    }
    co_return all;
}

// A machine may have no IPv6, or none on its loopback interface.
bool has_ipv6() {
    const auto where = endpoint::parse("[::1]:0").value();
    const kevring::fd made(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return made && ::bind(made.number(), where.address(), where.address_bytes()) == 0;
}

class temporary_path {
public:
    explicit temporary_path(const std::string& name)
        : path_(std::filesystem::temp_directory_path() /
                (name + '.' + std::to_string(::getpid()))) {}
    ~temporary_path() { std::filesystem::remove(path_); }
    std::string string() const { return path_.string(); }

private:
    std::filesystem::path path_;
};

}  // namespace

TEST_CASE("a connection carries bytes both ways, and its half-close", "[net][socket]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        auto ends = co_await connected(loop, accepting);

        const auto sent = co_await ends.local.send("question");
        CHECK(sent.value() == 8);
        const auto shut = co_await ends.local.shutdown_send();
        CHECK(shut.has_value());
        const std::string received = co_await receive_all(ends.peer);
        CHECK(received == "question");
        const auto answered = co_await ends.peer.send("answer");
        CHECK(answered.has_value());
        co_await ends.peer.close(1s);
        const std::string answer = co_await receive_all(ends.local);
        CHECK(answer == "answer");
    });
}

TEST_CASE("a forked child ends no connection of its parent", "[net][socket][fork]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        auto ends = co_await connected(loop, accepting);
        auto use_all = [&]() -> task<void> {
            const auto shut = co_await ends.local.shutdown_send();
            if (shut.has_value() || shut.error() != std::errc::operation_not_permitted)
                throw std::runtime_error("shutdown_send() of a parent's socket");
            co_await ends.local.close();
            co_await ends.peer.close_without_lingering();
        };

        const auto outcome = run_in_child([&] {
            kevring::ring own;
            task<void> uses = use_all();
            kevring::run(own, std::move(uses));
        });

        INFO(outcome.error_text);
        CHECK(outcome.exited(0));
        const auto sent = co_await ends.local.send("still");
        CHECK(sent.has_value());
        co_await ends.local.close(1s);
        const std::string received = co_await receive_all(ends.peer);
        CHECK(received == "still");
    });
}

TEST_CASE("sockets of both families and of Unix paths connect", "[net][socket]") {
    const temporary_path path("kevring-net-test");
    for (const std::string& text :
         {std::string("127.0.0.1:0"), std::string("[::1]:0"), "unix:" + path.string(),
          "unix:@kevring-" + std::to_string(::getpid())}) {
        CAPTURE(text);
        if (text.front() == '[' && !has_ipv6()) {
            WARN("not tried: there is no IPv6 here");
            continue;
        }
        on_a_ring([&](kevring::ring& loop) -> task<void> {
            auto accepting = kevring::listener::bind(loop, endpoint::parse(text).value()).value();
            auto ends = co_await connected(loop, accepting);
            const auto sent = co_await ends.peer.send("x");
            CHECK(sent.has_value());
            const auto got = co_await ends.local.receive();
            CHECK(got.value().size() == 1);
        });
    }
}

TEST_CASE("a Unix path is removed with its listener, and taken over when abandoned",
          "[net][listener]") {
    const temporary_path path("kevring-net-path");
    const auto where = endpoint::unix_path(path.string()).value();
    kevring::ring loop;
    {
        auto first = kevring::listener::bind(loop, where);
        REQUIRE(first.has_value());
        auto second = kevring::listener::bind(loop, where);
        REQUIRE_FALSE(second.has_value());
        CHECK(second.error() == std::errc::address_in_use);
        CHECK(std::filesystem::exists(path.string()));
    }
    CHECK_FALSE(std::filesystem::exists(path.string()));

    {  // a server that died: its socket is closed, its path remains
        const kevring::fd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        REQUIRE(::bind(dead.number(), where.address(), where.address_bytes()) == 0);
    }
    CHECK(kevring::listener::bind(loop, where).has_value());
}

TEST_CASE("a file that is no socket is not taken for an abandoned one", "[net][listener]") {
    const temporary_path path("kevring-net-file");
    const kevring::fd file(::open(path.string().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    kevring::ring loop;

    const auto bound = kevring::listener::bind(loop, endpoint::unix_path(path.string()).value());

    REQUIRE_FALSE(bound.has_value());
    CHECK(bound.error() == std::errc::address_in_use);
    CHECK(std::filesystem::exists(path.string()));
}

TEST_CASE("a port without a listener is connection_refused", "[net][connect]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        // Bound, so that no other process gets the port, and not listening.
        endpoint where = endpoint::loopback(0);
        const kevring::fd silent(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        REQUIRE(::bind(silent.number(), where.address(), where.address_bytes()) == 0);
        socklen_t bytes = endpoint::capacity();
        REQUIRE(::getsockname(silent.number(), where.address(), &bytes) == 0);
        const auto dialled = co_await kevring::connect(loop, where);
        REQUIRE_FALSE(dialled.has_value());
        CHECK(dialled.error() == std::errc::connection_refused);
    });
}

// A listener whose backlog is full neither answers nor refuses: only the deadline ends the wait.
TEST_CASE("a connection attempt ends at its deadline", "[net][connect]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting =
            kevring::listener::bind(loop, endpoint::loopback(0), {.backlog = 0}).value();
        const auto where = accepting.local().value();
        std::vector<kevring::socket> waiting;
        bool timed_out = false;
        for (int i = 0; i < 8 && !timed_out; ++i) {
            auto dialled = co_await kevring::with_timeout(kevring::connect(loop, where), 200ms);
            if (dialled)
                waiting.push_back(std::move(*dialled));
            else
                timed_out = dialled.error() == std::errc::timed_out;
        }
        CHECK(timed_out);
    });
}

TEST_CASE("a connection comes from its configured address", "[net][connect]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        const kevring::connect_options options{.local_endpoint =
                                                   endpoint::parse("127.0.0.9:0").value()};
        const auto dialled = co_await kevring::connect(loop, accepting.local().value(), options);
        REQUIRE(dialled.has_value());
        auto accepted = co_await accepting.accept();
        CHECK(accepted.value().peer().value().host() == "127.0.0.9");
    });
}

TEST_CASE("accepted connections inherit the listener's options", "[net][options]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        kevring::listener_options options;
        options.accepted.keep_alive = 30s;
        options.accepted.congestion_control = "reno";
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0), options).value();
        auto ends = co_await connected(loop, accepting);
        const int number = ends.peer.native().number();
        int value = 0;
        socklen_t bytes = sizeof value;
        CHECK(::getsockopt(number, IPPROTO_TCP, TCP_NODELAY, &value, &bytes) == 0);
        CHECK(value == 1);
        CHECK(::getsockopt(number, IPPROTO_TCP, TCP_KEEPIDLE, &value, &bytes) == 0);
        CHECK(value == 30);
        char name[16]{};
        bytes = sizeof name;
        CHECK(::getsockopt(number, IPPROTO_TCP, TCP_CONGESTION, name, &bytes) == 0);
        CHECK(std::string(name) == "reno");
    });
}

TEST_CASE("an algorithm that the kernel lacks is an error of the option", "[net][options]") {
    const kevring::fd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    kevring::socket_options options;
    options.congestion_control = "carrier-pigeon";

    const auto set = kevring::set_options(made, options);

    REQUIRE_FALSE(set.has_value());
    CHECK(set.error() == std::errc::no_such_file_or_directory);
}

// With every descriptor in use the kernel ends the accept request at once, each time it is made.
TEST_CASE("accept waits while descriptors have run out, then continues", "[net][listener]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        const auto where = accepting.local().value();
        auto dialled = co_await kevring::connect(loop, where);
        REQUIRE(dialled.has_value());

        rlimit before{};
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
        const int highest = ::fcntl(0, F_DUPFD_CLOEXEC, 0);
        ::close(highest);
        const rlimit none{static_cast<rlim_t>(highest), before.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
        std::error_code ended;
        // The time may be over before the kernel has been asked.
        for (int i = 0; i < 100 && accepting.exhausted_count() == 0; ++i) {
            const auto unaccepted = co_await kevring::with_timeout(accepting.accept(), 100ms);
            ended = unaccepted ? std::error_code() : unaccepted.error();
        }
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);

        CHECK(ended == std::errc::timed_out);
        // 10 + 20 + 40 ms fit, a loop that spins would make thousands.
        CHECK(accepting.exhausted_count() >= 1);
        CHECK(accepting.exhausted_count() <= 5);
        const auto accepted = co_await accepting.accept();
        CHECK(accepted.has_value());
    });
}

TEST_CASE("a stop of accept loses no connection", "[net][listener]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        const auto nobody = co_await kevring::with_timeout(accepting.accept(), 1ms);
        CHECK(nobody.error() == std::errc::timed_out);
        auto dialled = co_await kevring::connect(loop, accepting.local().value());
        REQUIRE(dialled.has_value());
        const auto accepted = co_await accepting.accept();
        CHECK(accepted.has_value());
    });
}

TEST_CASE("close_without_lingering gives the peer all that was sent, and does not wait for it",
          "[net][socket]") {
    const bool is_receiving = GENERATE(true, false);
    on_a_ring([&](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        auto ends = co_await connected(loop, accepting);
        const std::string text(100'000, 'x');
        if (is_receiving) {  // then a request is in flight
            const auto asked = co_await ends.local.send("bye");
            REQUIRE(asked.has_value());
            const auto received = co_await ends.peer.receive();
            REQUIRE(received.has_value());
        }
        // The bytes that fit while no task reads: the machine may be short of memory.
        const ssize_t sent = ::send(ends.peer.native().number(), text.data(), text.size(),
                                    MSG_DONTWAIT | MSG_NOSIGNAL);
        REQUIRE(sent > 0);
        co_await ends.peer.close_without_lingering();  // the near end stays open

        CHECK_FALSE(ends.peer.native().valid());
        const std::string received = co_await receive_all(ends.local);
        CHECK(received == text.substr(0, static_cast<std::size_t>(sent)));
    });
}

TEST_CASE("close_without_lingering does not wait for long where others have all buffers",
          "[net][socket]") {
    const bool is_receiving = GENERATE(true, false);
    on_a_ring([&](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        auto others = co_await connected(loop, accepting);
        auto ends = co_await connected(loop, accepting);
        std::vector<kevring::borrowed_buffer> taken;
        const auto take_one = [&](both_ends& pair) -> task<void> {
            const auto sent = co_await pair.local.send("x");
            REQUIRE(sent.has_value());
            auto got = co_await pair.peer.receive();
            REQUIRE(got.has_value());
            taken.push_back(std::move(*got));
        };
        if (is_receiving) co_await take_one(ends);  // then a request is in flight
        while (taken.size() < kevring::buffer_pool_options().buffer_count_max)
            co_await take_one(others);

        const auto sent = co_await ends.peer.send("bye");
        REQUIRE(sent.has_value());
        co_await ends.peer.close_without_lingering();

        CHECK_FALSE(ends.peer.native().valid());
        std::array<std::byte, 8> bytes{};
        const auto received = co_await ends.local.receive(bytes);
        REQUIRE(received.has_value());  // the time of this test is not over
        CHECK(*received == 3);
    });
}

// An unread byte would turn a plain close() into a reset, and the answer would be lost.
TEST_CASE("close lets the peer read what was sent, also with unread bytes", "[net][socket]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        auto ends = co_await connected(loop, accepting);
        const auto asked = co_await ends.local.send(std::string(10'000, 'q'));
        CHECK(asked.has_value());
        const auto answered = co_await ends.peer.send("go away");
        CHECK(answered.has_value());
        task_scope closing(loop);
        closing.spawn(ends.peer.close(5s));
        const std::string received = co_await receive_all(ends.local);
        CHECK(received == "go away");
        const auto shut = co_await ends.local.shutdown_send();
        CHECK(shut.has_value());
        co_await closing.join();
    });
}

TEST_CASE("a reader finds lines, however they are cut", "[net][byte_reader]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        auto ends = co_await connected(loop, accepting);
        const std::string text = "one\r\ntwo\r\n\r\nFIVE!rest";
        auto send_all = [&]() -> task<void> {
            for (std::size_t i = 0; i < text.size(); i += 3) {
                const auto sent = co_await ends.local.send(text.substr(i, 3));
                CHECK(sent.has_value());
            }
            const auto shut = co_await ends.local.shutdown_send();
            CHECK(shut.has_value());
        };
        task_scope sending(loop);
        sending.spawn(send_all());

        kevring::byte_reader reader(ends.peer);
        std::vector<std::string> seen;
        for (int i = 0; i < 3; ++i) {
            const auto line = co_await reader.read_line(100, "\r\n");
            seen.emplace_back(line.value());
        }
        const auto counted = co_await reader.read_exactly(5);
        seen.emplace_back(counted.value());
        const auto cut = co_await reader.read_line(100, "\r\n");
        co_await sending.join();

        CHECK(seen == std::vector<std::string>{"one", "two", "", "FIVE!"});
        CHECK(cut.error() == std::errc::connection_aborted);
        CHECK(reader.buffered() == "rest");
    });
}

TEST_CASE("a line that is too long is refused before it fills memory", "[net][byte_reader]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        auto ends = co_await connected(loop, accepting);
        const auto sent = co_await ends.local.send(std::string(1000, 'x'));
        CHECK(sent.has_value());
        kevring::byte_reader reader(ends.peer);
        const auto line = co_await reader.read_line(10);
        CHECK(line.error() == std::errc::message_size);
    });
}

TEST_CASE("a second accept on a listener ends with an error, and the first continues",
          "[net][listener]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        const auto where = accepting.local().value();
        auto first = [&]() -> task<void> {
            const auto accepted = co_await accepting.accept();
            CHECK(accepted.has_value());
        };
        task_scope side(loop);
        side.spawn(first());
        const auto second = co_await accepting.accept();
        CHECK(second.error() == std::errc::connection_already_in_progress);
        const auto dialled = co_await kevring::connect(loop, where);
        CHECK(dialled.has_value());
        co_await side.join();
    });
}

TEST_CASE("a second receive on a socket ends with an error, and the first continues",
          "[net][socket]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        for (const bool own_memory : {true, false}) {
            CAPTURE(own_memory);
            auto ends = co_await connected(loop, accepting);
            std::array<std::byte, 16> bytes{};
            auto receive = [&]() -> task<result<std::size_t>> {
                if (own_memory) co_return co_await ends.local.receive(bytes);
                const auto got = co_await ends.local.receive();
                if (!got) co_return tl::unexpected(got.error());
                co_return got->size();
            };
            auto first = [&]() -> task<void> {
                const auto got = co_await receive();
                CHECK(got.value() == 5);
            };
            task_scope side(loop);
            side.spawn(first());
            for (int i = 0; i < 3; ++i) {
                const auto second = co_await receive();
                CHECK(second.error() == std::errc::connection_already_in_progress);
            }
            const auto sent = co_await ends.peer.send("first");
            CHECK(sent.has_value());
            co_await side.join();
        }
    });
}

TEST_CASE("close() ends a receive that is pending", "[net][socket]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        for (const bool own_memory : {true, false}) {
            for (const int how : {0, 1, 2}) {
                CAPTURE(own_memory, how);
                auto ends = co_await connected(loop, accepting);
                std::array<std::byte, 16> bytes{};
                auto receive = [&]() -> task<void> {
                    std::error_code error;
                    if (own_memory) {
                        const auto got = co_await ends.local.receive(bytes);
                        error = got.error();
                    } else {
                        const auto got = co_await ends.local.receive();
                        error = got.error();
                    }
                    CHECK(error == std::errc::operation_canceled);
                    // The socket has no descriptor any more.
                    const auto more = co_await ends.local.receive();
                    CHECK(more.error() == std::errc::bad_file_descriptor);
                };
                task_scope side(loop);
                side.spawn(receive());
                kevring::fd given;
                if (how == 0) {
                    auto closing = ends.local.close();
                    auto end_peer = [&]() -> task<void> {
                        const auto got = co_await ends.peer.receive();
                        CHECK(got.value().empty());
                        co_await ends.peer.close();
                    };
                    side.spawn(end_peer());
                    co_await std::move(closing);
                } else if (how == 1) {
                    co_await ends.local.close_without_lingering();
                } else {
                    given = ends.local.release();
                }
                co_await side.join();
                CHECK(!ends.local.native().valid());
            }
        }
    });
}

TEST_CASE("an empty span to receive into is an invalid argument", "[net][socket]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        auto ends = co_await connected(loop, accepting);
        const auto got = co_await ends.local.receive(std::span<std::byte>());
        CHECK(got.error() == std::errc::invalid_argument);
    });
}

TEST_CASE("a socket that was moved from has no descriptor", "[net][socket]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        for (const bool received_before : {false, true}) {
            CAPTURE(received_before);
            auto ends = co_await connected(loop, accepting);
            if (received_before) {
                const auto sent = co_await ends.peer.send("x");
                CHECK(sent.has_value());
                const auto got = co_await ends.local.receive();
                CHECK(got.has_value());
            }
            kevring::socket other = std::move(ends.local);
            // NOLINTBEGIN(bugprone-use-after-move)
            std::array<std::byte, 16> bytes{};
            const auto own = co_await ends.local.receive(bytes);
            CHECK(own.error() == std::errc::bad_file_descriptor);
            const auto borrowed = co_await ends.local.receive();
            CHECK(borrowed.error() == std::errc::bad_file_descriptor);
            co_await ends.local.close();
            // NOLINTEND(bugprone-use-after-move)
        }
    });
}

TEST_CASE("a socket may move while a receive is pending on it", "[net][socket]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        auto ends = co_await connected(loop, accepting);
        std::array<std::byte, 16> bytes{};
        auto receive = [&]() -> task<void> {
            const auto got = co_await ends.local.receive(bytes);
            CHECK(got.value() == 4);
        };
        task_scope side(loop);
        side.spawn(receive());
        kevring::socket moved = std::move(ends.local);
        const auto second = co_await moved.receive(bytes);
        CHECK(second.error() == std::errc::connection_already_in_progress);
        const auto sent = co_await ends.peer.send("text");
        CHECK(sent.has_value());
        co_await side.join();
    });
}

// A request that was armed takes bytes until the kernel has received its cancel.
TEST_CASE("a released socket leaves its bytes to the next reader", "[net][socket]") {
    on_a_ring([](kevring::ring& loop) -> task<void> {
        auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        for (const bool submitted : {true, false}) {
            CAPTURE(submitted);
            auto ends = co_await connected(loop, accepting);
            auto receive = [&]() -> task<void> {
                const auto got = co_await ends.local.receive();
                CHECK(got.error() == std::errc::operation_canceled);
            };
            task_scope side(loop);
            side.spawn(receive());
            if (submitted) {
                co_await kevring::yield();
                co_await kevring::yield();
            }
            side.request_stop();
            const kevring::fd given = ends.local.release();
            REQUIRE(::send(ends.peer.native().number(), "twelve bytes", 12, MSG_NOSIGNAL) == 12);
            std::array<char, 16> bytes{};
            pollfd readable{given.number(), POLLIN, 0};
            REQUIRE(::poll(&readable, 1, 10'000) == 1);
            CHECK(::recv(given.number(), bytes.data(), bytes.size(), MSG_DONTWAIT) == 12);
            co_await side.join();
        }
    });
}

TEST_CASE("a socket that is destroyed under a receive ends the process with a message",
          "[net][socket]") {
    for (const bool own_memory : {true, false}) {
        CAPTURE(own_memory);
        const auto outcome = run_in_child([&] {
            on_a_ring([&](kevring::ring& loop) -> task<void> {
                auto accepting = kevring::listener::bind(loop, endpoint::loopback(0)).value();
                std::optional<both_ends> ends = co_await connected(loop, accepting);
                std::array<std::byte, 16> bytes{};
                auto receive = [&]() -> task<void> {
                    if (own_memory)
                        static_cast<void>(co_await ends->local.receive(bytes));
                    else
                        static_cast<void>(co_await ends->local.receive());
                };
                task_scope side(loop);
                side.spawn(receive());
                ends.reset();
                co_await side.join();
            });
        });
        CHECK(
            outcome.asserted("socket or stream destroyed while an await on it is pending; stop "
                             "and join the awaiting task first"));
    }
}
