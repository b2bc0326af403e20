// last_checks.cpp: the last checks of a batch (KEVENT_REQ_LAST_CHECK), which are one question to the
// kernel.
#include "tests/kevent/kevent_fixture.hpp"

#include <kevring/kevent/detail/queue_core.hpp>
#include <kevring/kevent/detail/source.hpp>
#include <kevring/kevent/detail/wait_limit.hpp>
#include <kevring/kevent/ports/epoll_port.hpp>

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

using namespace kevent_test;

namespace {

using kevring::detail::readiness;

/// The counts of one source.
struct questions {
    int alone = 0;     // test() was called, which asks for this source only
    int answered = 0;  // the batch asked
};

/// A type that watches nothing: READY makes its records ready, and the last check finds out whether
/// its descriptor is.
class checked_source final : public kevring::detail::source {
public:
    checked_source(kevring::detail::source_host& host, kevring::detail::registration& target,
                   int number, questions& count)
        : source(host, target), number_(number), count_(count) {}

    int arm() override { return 0; }
    void disarm() noexcept override {}
    readiness test() override {
        ++count_.alone;
        return readiness::not_ready;
    }
    readiness test_on_add() override { return readiness::not_ready; }
    pollfd poll_question() const noexcept override { return {number_, POLLIN, 0}; }
    readiness test_by_answer(std::uint32_t poll_bits) override {
        ++count_.answered;
        return (poll_bits & POLLIN) != 0 ? readiness::ready : readiness::not_ready;
    }

private:
    const int number_;
    questions& count_;
};

/// An epoll_port, which reads all that `peers` has received once a last check has found that there is
/// something: the next flush() after an edge of the descriptor comes before the checking thread wakes
/// another one.
class draining_port final : public kevring::detail::port {
public:
    explicit draining_port(const connected_pair& peers) : peers_(peers) {}

    std::string_view name() const noexcept override { return inner_.name(); }
    int arm(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override {
        return inner_.arm(number, poll_bits, tag);
    }
    int change(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override {
        return inner_.change(number, poll_bits, tag);
    }
    int check_pollable(int number) noexcept override { return inner_.check_pollable(number); }
    void disarm(int number, std::uint64_t tag) noexcept override { inner_.disarm(number, tag); }
    int flush() noexcept override {
        if (std::exchange(has_edge_, false)) peers_.drain_local();
        return 0;
    }
    void set_readable(bool is_readable) noexcept override { inner_.set_readable(is_readable); }
    int create_timer() noexcept override { return inner_.create_timer(); }
    int arm_timer(std::int64_t deadline_ns) noexcept override {
        return inner_.arm_timer(deadline_ns);
    }
    int poll(std::span<kevring::detail::edge> edges) noexcept override {
        const int count = inner_.poll(edges);
        for (int i = 0; i < count; ++i)
            if (edges[static_cast<std::size_t>(i)].tag >= first_free) has_edge_ = true;
        return count;
    }
    int wait(const timespec* timeout) override { return inner_.wait(timeout); }
    void report_again(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override {
        inner_.report_again(number, poll_bits, tag);
    }
    void wake_one() noexcept override { inner_.wake_one(); }
    kevring::fd_ref control() const noexcept override { return inner_.control(); }
    int release_control() noexcept override { return inner_.release_control(); }

private:
    const connected_pair& peers_;
    kevring::detail::epoll_port inner_;
    bool has_edge_ = false;
};

/// A queue with `count` such registrations, half of a socket that is readable, half of one that is not.
class checked_queue_of {
public:
    explicit checked_queue_of(std::size_t count) : counts(count) {
        readable.send_from_peer();
        for (std::size_t i = 0; i < count; ++i) {
            const connected_pair& pair = i % 2 == 0 ? readable : empty;
            ukevent one = user_event(i + 1, KEVENT_REQ_LAST_CHECK);
            REQUIRE(queue.add_with_source(one, [&](auto& host, auto& target) {
                return kevring::result<std::unique_ptr<kevring::detail::source>>(
                    std::make_unique<checked_source>(host, target, pair.local(), counts[i]));
            }) == 0);
            records.push_back(one);
        }
        REQUIRE(queue.mark_ready(records.data(), static_cast<unsigned>(count)) ==
                static_cast<int>(count));
    }

    connected_pair readable = connected_pair::sockets();
    connected_pair empty = connected_pair::sockets();
    std::vector<questions> counts;
    std::vector<ukevent> records;
    kevring::detail::queue_core queue{std::make_unique<kevring::detail::epoll_port>(), nullptr, 0};
};

}  // namespace

TEST_CASE("a call asks for the last checks of all its records at once",
          "[kevent][last_check][K-093]") {
    constexpr std::size_t count = 40;
    checked_queue_of checked(count);
    std::array<ukevent, count> got{};

    const int collected =
        checked.queue.get_events(1, count, kevring::detail::wait_limit::no_wait(), got.data());

    REQUIRE(collected == count / 2);
    for (std::size_t i = 0; i < count / 2; ++i) CHECK(got[i].id.raw_u64 == 2 * i + 1);
    for (const questions& each : checked.counts) {
        CHECK(each.alone == 0);
        CHECK(each.answered == 1);
    }
}

TEST_CASE("a call whose records have failed their last check collects the next ones",
          "[kevent][last_check][K-093]") {
    constexpr unsigned count = 40;
    constexpr unsigned wanted = 10;
    checked_queue_of checked(count);
    std::array<ukevent, wanted> got{};

    const int collected =
        checked.queue.get_events(1, wanted, kevring::detail::wait_limit::no_wait(), got.data());

    REQUIRE(collected == wanted);
    for (unsigned i = 0; i < wanted; ++i) CHECK(got[i].id.raw_u64 == 2 * i + 1);
    for (const questions& each : checked.counts) CHECK(each.alone == 0);
}

TEST_CASE("the records that are published together are asked for at once",
          "[kevent][last_check][K-093]") {
    constexpr std::size_t count = 40;
    std::vector<std::uint64_t> memory(1 + (count + 1) * 5);
    std::vector<connected_pair> pairs;
    std::vector<questions> counts(count);
    std::vector<ukevent> records;
    auto* const ring = reinterpret_cast<kevent_ring*>(memory.data());
    kevring::detail::queue_core queue(std::make_unique<kevring::detail::epoll_port>(), ring,
                                      count + 1, "", kevring::detail::publication::by_driver);
    for (std::size_t i = 0; i < count; ++i) {
        pairs.push_back(connected_pair::sockets());
        if (i % 2 == 0) pairs.back().send_from_peer();
        records.push_back(user_event(i + 1, KEVENT_REQ_LAST_CHECK));
        REQUIRE(queue.add_with_source(records[i], [&](auto& host, auto& target) {
            return kevring::result<std::unique_ptr<kevring::detail::source>>(
                std::make_unique<checked_source>(host, target, pairs[i].local(), counts[i]));
        }) == 0);
    }

    REQUIRE(queue.mark_ready(records.data(), count) == static_cast<int>(count));

    CHECK(ring->ring_kidx == count / 2);
    for (std::size_t i = 0; i < count / 2; ++i) CHECK(ring->event[i].id.raw_u64 == 2 * i + 1);
    for (const questions& each : counts) {
        CHECK(each.alone == 0);
        CHECK(each.answered == 1);
    }
}

TEST_CASE("a call that waits for more records than one poll(2) asks for counts no stale ones",
          "[kevent][last_check][K-059][K-093]") {
    constexpr unsigned count = 600;  // of which 300 pass their last check
    checked_queue_of checked(count);
    std::vector<ukevent> got(count);

    const int collected =
        checked.queue.get_events(400, count, kevring::detail::wait_limit::no_wait(), got.data());

    CHECK(collected == count / 2);
    for (const questions& each : checked.counts) {
        CHECK(each.alone == 0);
        CHECK(each.answered == 1);
    }
}

TEST_CASE("a thread repeats the last check that another has made before it slept",
          "[kevent][many-threads][last_check][K-093]") {
    const connected_pair peers = connected_pair::sockets();
    kevring::detail::queue_core queue(std::make_unique<draining_port>(peers), nullptr, 0);
    std::array<ukevent, 2> records{
        record(KEVENT_POLL, peers.local(), KEVENT_POLL_POLLIN, KEVENT_REQ_LAST_CHECK),
        user_event(7)};
    REQUIRE(queue.add(records.data(), 2) == 0);
    kevring::detail::wait_limit limit = kevring::detail::wait_limit::no_wait();
    limit.clock = kevring::detail::wait_limit::kind::relative;
    limit.deadline_ns = test_timeout.tv_sec * 1'000'000'000LL;
    std::array<ukevent, 2> of_two{};
    std::array<ukevent, 1> of_one{};
    std::atomic<int> count_of_one{-1};
    observed_thread waits_for_two([&] { queue.get_events(2, 2, limit, of_two.data()); });
    REQUIRE(waits_for_two.sleeps_in_call());
    observed_thread waits_for_one(
        [&] { count_of_one = queue.get_events(1, 1, limit, of_one.data()); });
    REQUIRE(waits_for_one.sleeps_in_call());

    peers.send_from_peer();  // the first thread finds it, wakes the second, and sleeps on
    pollfd drained{peers.local(), POLLIN, 0};
    const auto end = now() + half_of_test_timeout;
    while (::poll(&drained, 1, 0) == 1 && now() < end) std::this_thread::yield();
    REQUIRE(queue.mark_ready(&records[1], 1) == 1);
    waits_for_one.join();
    queue.interrupt_wait();
    waits_for_two.join();

    CHECK(count_of_one == 1);
    CHECK(of_one[0].type == KEVENT_UNOTIFY);
}
