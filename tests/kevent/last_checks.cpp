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
