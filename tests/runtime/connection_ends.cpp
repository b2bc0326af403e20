// Connections that end in all ways, on several threads that give one another their descriptor
// numbers: no byte and no connection is lost.
//
// KEVRING_CONNECTION_ENDS sets how many connections end in all; one in sixteen is a TCP connection.
#include "tests/support/catch.hpp"
#include "tests/support/loopback_listener.hpp"
#include "tests/support/received.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/operations/accept.hpp>
#include <kevring/runtime/operations/nop.hpp>
#include <kevring/runtime/operations/poll.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/when.hpp>

#include <array>
#include <atomic>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <poll.h>
#include <sys/socket.h>

using kevring::accept_stream;
using kevring::buffer_pool;
using kevring::fd;
using kevring::poll_stream;
using kevring::receive_stream;
using kevring::ring;
using kevring::task;
using kevring::task_scope;
using namespace std::chrono_literals;

namespace {

unsigned ends_wanted() {
    const char* const text = std::getenv("KEVRING_CONNECTION_ENDS");
    return text == nullptr ? 10'000 : static_cast<unsigned>(std::strtoul(text, nullptr, 10));
}

struct both_ends {
    fd local;
    fd peer;
};

both_ends pair() {
    std::array<int, 2> made{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, made.data()) != 0)
        throw std::system_error(errno, std::system_category(), "socketpair");
    return {fd(made[0]), fd(made[1])};
}

// The part of one thread. Failures are counted: the macros of the test belong to its own thread.
class worker {
public:
    worker(unsigned seed, unsigned end_count, std::atomic<unsigned>& lost)
        : random_(seed), end_count_(end_count), lost_(lost) {}

    void run() {
        const auto deadline = test_deadline * (1 + end_count_ / 10'000);
        kevring::run(loop_, kevring::with_timeout(all(), deadline));
    }

    bool finished() const noexcept { return finished_; }

private:
    task<void> all() {
        for (unsigned done = 0; done < end_count_; done += 2) {
            static_cast<void>(co_await kevring::nop_operation(
                loop_));  // from here on this runs while the ring reaps
            co_await abandon_one();
            co_await serve_one(done % 32 == 0);
            if (done % 64 == 0) co_await accept_one();
        }
        finished_ = true;
    }

    bool chance(unsigned one_in) { return random_() % one_in == 0; }

    // A connection whose receive is stopped, and which is closed or given away at once.
    task<void> abandon_one() {
        both_ends ends = pair();
        std::optional<buffer_pool> pool;
        if (chance(8)) pool.emplace(loop_, kevring::buffer_pool_options{.buffer_count = 1});
        const bool given_away = chance(3);
        const bool later = chance(3);
        auto wait = [&]() -> task<void> {
            receive_stream stream(loop_, ends.local,
                                  pool ? *pool : loop_.service<kevring::buffer_pool>());
            poll_stream events(loop_, ends.local, POLLIN);
            auto first = [&]() -> task<void> {
                const auto got = co_await stream.next();
                lost_ += got.has_value() ? 1 : 0;
            };
            auto second = [&]() -> task<void> {
                const auto got = co_await events.next();
                lost_ += got.has_value() ? 1 : 0;
            };
            co_await kevring::when_all(first(), second());
        };
        task_scope side(loop_);
        side.spawn(wait());
        if (later) {
            co_await kevring::yield();
            co_await kevring::yield();
        }
        side.request_stop();
        if (pool && chance(2)) pool.reset();
        co_await side.join();
        if (given_away) {
            co_await kevring::yield();  // the cancel of what had been submitted
            const fd given(ends.local.release());
            const std::string text = next_text();
            send(ends.peer, text);
            if (read_all(given, text.size()) != text) ++lost_;
        }
    }

    // A connection that is received from to its end, with stops in between.
    task<void> serve_one(bool over_tcp) {
        both_ends ends;
        if (over_tcp) {
            loopback_connection made = accepting_.connect();
            ends = {std::move(made.accepted), std::move(made.dialled)};
        } else {
            ends = pair();
        }
        std::string sent;
        std::string received;
        {
            receive_stream stream(loop_, ends.local);
            const unsigned steps = 1 + random_() % 4;
            for (unsigned i = 0; i < steps; ++i) {
                sent += next_text();
                send(ends.peer, std::string_view(sent).substr(sent_bytes_));
                sent_bytes_ = sent.size();
                auto take = [&]() -> task<void> {
                    const auto got = co_await stream.next();
                    if (got) received += text_of(*got);
                };
                task_scope side(loop_);
                side.spawn(take());
                if (chance(2)) co_await kevring::yield();
                side.request_stop();
                co_await side.join();
            }
            sent_bytes_ = 0;
            ends.peer.reset();
            received += co_await all_of(stream);
        }
        if (received != sent) ++lost_;
    }

    // A listener whose accept is stopped, and that accepts again.
    task<void> accept_one() {
        const loopback_listener accepting;
        accept_stream connections(loop_, accepting.native());
        auto accept = [&](std::optional<fd>& accepted) -> task<void> {
            auto got = co_await connections.next();
            if (got) accepted.emplace(std::move(*got));
        };
        std::optional<fd> accepted;
        task_scope side(loop_);
        side.spawn(accept(accepted));
        if (chance(2)) co_await kevring::yield();
        side.request_stop();
        co_await side.join();
        if (accepted) ++lost_;  // no client has connected
        const fd dialled = accepting.dial();
        const std::string text = next_text();
        send(dialled, text);
        co_await accept(accepted);
        if (!accepted || read_all(*accepted, text.size()) != text) ++lost_;
    }

    std::string next_text() {
        return std::to_string(random_()) + ':' + std::string(random_() % 100, 'x') + '\n';
    }
    void send(const fd& socket, std::string_view text) {
        if (::send(socket.number(), text.data(), text.size(), MSG_NOSIGNAL) !=
            static_cast<ssize_t>(text.size()))
            ++lost_;
    }
    // A receive without the ring, as by a thread that was given the descriptor.
    static std::string read_all(const fd& socket, std::size_t byte_count) {
        std::string text;
        while (text.size() < byte_count) {
            pollfd readable{socket.number(), POLLIN, 0};
            if (::poll(&readable, 1, 10'000) != 1) break;
            std::array<char, 512> bytes;
            const ssize_t count = ::recv(socket.number(), bytes.data(), bytes.size(), MSG_DONTWAIT);
            if (count <= 0) break;
            text.append(bytes.data(), static_cast<std::size_t>(count));
        }
        return text;
    }

    ring loop_;
    loopback_listener accepting_;
    std::mt19937 random_;
    const unsigned end_count_;
    std::size_t sent_bytes_ = 0;
    bool finished_ = false;
    std::atomic<unsigned>& lost_;
};

}  // namespace

TEST_CASE("connections that end in all ways on several threads lose no byte",
          "[runtime][descriptor]") {
    constexpr unsigned thread_count = 4;
    std::atomic<unsigned> lost{0};
    std::atomic<unsigned> failed{0};
    std::vector<std::jthread> threads;
    for (unsigned i = 0; i < thread_count; ++i)
        threads.emplace_back([&, i] {
            try {
                worker one(i + 1, ends_wanted() / thread_count, lost);
                one.run();
                if (!one.finished()) ++failed;
            } catch (...) {
                ++failed;
            }
        });
    threads.clear();
    CHECK(lost == 0);
    CHECK(failed == 0);
}
