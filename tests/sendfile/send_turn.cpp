// The line of those who wait for a turn of the loop in which files may be sent.
#include "tests/sendfile/watching_kernel.hpp"

#include <kevring/runtime/sleep.hpp>
#include <kevring/sendfile/send_file.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <vector>

#include <sys/stat.h>

using namespace kevring;
using namespace kevring::testing;

namespace {

constexpr std::size_t file_bytes = at_once_bytes_max;
constexpr std::size_t turn_bytes = 2 * 1024 * 1024;

// One after another gets this file over a connection of its own that takes all of it.
class sender {
public:
    sender() {
        struct stat status{};
        REQUIRE(::fstat(file_.native().number(), &status) == 0);
        options_.expected = file_version::of(status);
    }
    bool can_be_asked_about() const {
        if (file_.can_read_without_waiting()) return true;
        WARN("not tried: the file system knows no RWF_NOWAIT");
        return false;
    }
    send_report try_to_send(ring& on) {
        ends_.push_back(roomy());
        return try_send_file(on, ends_.back().near, file_.native(), {0, file_bytes}, options_);
    }
    // Until this turn has nothing left.
    void use_up(ring& on) {
        while (send_turn::is_free(on)) REQUIRE(try_to_send(on).bytes_sent > 0);
    }

private:
    const test_file file_{pattern(file_bytes)};
    std::vector<stream_pair> ends_;
    send_options options_;
};

}  // namespace

TEST_CASE("a turn is free until its bytes have been moved, and the next one is again",
          "[sendfile][choice]") {
    sender files;
    if (!files.can_be_asked_about()) return;
    on_ring([&](ring& on) -> task<void> {
        CHECK(send_turn::is_free(on));
        files.use_up(on);
        CHECK(files.try_to_send(on).error == std::errc::operation_would_block);

        send_turn turn(on);
        co_await turn;
        CHECK(send_turn::is_free(on));
        CHECK(files.try_to_send(on).bytes_sent > 0);
    });
}

TEST_CASE("those in line get their turns in order, and who comes later does not pass them",
          "[sendfile][choice]") {
    constexpr int count = 40;
    sender files;
    if (!files.can_be_asked_about()) return;
    std::vector<int> order;
    std::map<std::uint64_t, std::uint64_t> bytes_by_turn;
    bool passed = false;

    on_ring([&](ring& on) -> task<void> {
        const auto send_in_turn = [&](int number) -> task<void> {
            send_turn turn(on);
            co_await turn;
            const send_report report = files.try_to_send(on);
            bytes_by_turn[on.counters().turns] += report.bytes_sent;
            order.push_back(number);
            // Its turn was good for one: the next of the line is before it now.
            const bool is_last = number == count - 1;
            if (!is_last && send_turn::is_free(on)) passed = true;
        };
        const auto look = [&]() -> task<void> {
            while (order.size() < count) {
                if (send_turn::is_free(on) && order.size() < count) passed = true;
                co_await yield();
            }
        };
        files.use_up(on);
        cancel_scope& outer = co_await current_scope();
        task_scope senders(on, &outer);
        for (int i = 0; i < count; ++i) senders.spawn(send_in_turn(i));
        senders.spawn(look());
        co_await senders.join();
    });

    std::vector<int> as_they_came(count);
    std::iota(as_they_came.begin(), as_they_came.end(), 0);
    CHECK(order == as_they_came);
    CHECK_FALSE(passed);
    // The one that makes a turn full is not cut short, and any before it may have been: a socket
    // takes what it has room for.
    for (const auto& [turn, sent] : bytes_by_turn) CHECK(sent < turn_bytes + file_bytes);
}

TEST_CASE("who is called and sends nothing gives the turn on", "[sendfile][choice]") {
    sender files;
    if (!files.can_be_asked_about()) return;
    int called = 0;
    on_ring([&](ring& on) -> task<void> {
        const auto wait_only = [&]() -> task<void> {
            send_turn turn(on);
            co_await turn;
            ++called;
        };
        files.use_up(on);
        const std::uint64_t begin = on.counters().turns;
        cancel_scope& outer = co_await current_scope();
        task_scope waiters(on, &outer);
        for (int i = 0; i < 100; ++i) waiters.spawn(wait_only());
        co_await waiters.join();
        CHECK(called == 100);
        CHECK(on.counters().turns - begin < 10);  // not one for each
        CHECK(send_turn::is_free(on));
    });
}

TEST_CASE("who has waited in line may wait there again, behind the others", "[sendfile][choice]") {
    std::vector<int> order;
    on_ring([&](ring& on) -> task<void> {
        const auto wait_often = [&](int number) -> task<void> {
            send_turn turn(on);
            for (int i = 0; i < 3; ++i) {
                co_await turn;
                order.push_back(number);
            }
        };
        cancel_scope& outer = co_await current_scope();
        task_scope waiters(on, &outer);
        for (int i = 0; i < 3; ++i) waiters.spawn(wait_often(i));
        co_await waiters.join();
    });
    CHECK(order == std::vector<int>{0, 1, 2, 0, 1, 2, 0, 1, 2});
}
