// send_budget.cpp: the FIFO queue of transfers that wait for a loop iteration with budget left.
#include "tests/sendfile/recording_kernel.hpp"

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

constexpr std::size_t file_bytes = try_send_bytes_max;
constexpr std::size_t iteration_bytes = 2 * 1024 * 1024;

// One after another gets this file over a connection of its own that takes all of it.
class sender {
public:
    sender() {
        struct stat status{};
        REQUIRE(::fstat(file_.native().number(), &status) == 0);
        options_.expected = file_version::from_stat(status);
    }
    bool can_be_asked_about() const {
        if (file_.can_read_without_waiting()) return true;
        WARN("not tried: the file system knows no RWF_NOWAIT");
        return false;
    }
    send_report try_to_send(ring& loop) {
        ends_.push_back(roomy());
        return try_send_file(loop, ends_.back().local, file_.native(), {0, file_bytes}, options_);
    }
    // Until this iteration has no budget left.
    void use_up(ring& loop) {
        while (send_budget::available(loop)) REQUIRE(try_to_send(loop).bytes_sent > 0);
    }

private:
    const test_file file_{pattern(file_bytes)};
    std::vector<stream_pair> ends_;
    send_options options_;
};

}  // namespace

TEST_CASE("an iteration has budget until its bytes are sent, and so has the next one",
          "[sendfile][choice]") {
    sender files;
    if (!files.can_be_asked_about()) return;
    on_ring([&](ring& loop) -> task<void> {
        CHECK(send_budget::available(loop));
        files.use_up(loop);
        CHECK(files.try_to_send(loop).error == std::errc::operation_would_block);

        send_budget budget(loop);
        co_await budget;
        CHECK(send_budget::available(loop));
        CHECK(files.try_to_send(loop).bytes_sent > 0);
    });
}

TEST_CASE("waiting senders resume in FIFO order, and a later sender does not pass them",
          "[sendfile][choice]") {
    constexpr int count = 40;
    sender files;
    if (!files.can_be_asked_about()) return;
    std::vector<int> order;
    std::map<std::uint64_t, std::uint64_t> bytes_by_iteration;
    bool passed = false;

    on_ring([&](ring& loop) -> task<void> {
        const auto send_in_order = [&](int number) -> task<void> {
            send_budget budget(loop);
            co_await budget;
            const send_report report = files.try_to_send(loop);
            bytes_by_iteration[loop.counters().iterations] += report.bytes_sent;
            order.push_back(number);
            // The slot permits one step: the next waiter precedes this sender now.
            const bool is_last = number == count - 1;
            if (!is_last && send_budget::available(loop)) passed = true;
        };
        const auto poll_budget = [&]() -> task<void> {
            while (order.size() < count) {
                if (send_budget::available(loop) && order.size() < count) passed = true;
                co_await yield();
            }
        };
        files.use_up(loop);
        cancel_scope& outer = co_await current_scope();
        task_scope senders(loop, &outer);
        for (int i = 0; i < count; ++i) senders.spawn(send_in_order(i));
        senders.spawn(poll_budget());
        co_await senders.join();
    });

    std::vector<int> as_they_came(count);
    std::iota(as_they_came.begin(), as_they_came.end(), 0);
    CHECK(order == as_they_came);
    CHECK_FALSE(passed);
    // The transfer that exceeds the budget is not cut short; earlier ones may have been, by a socket
    // with less room.
    for (const auto& [iteration, sent] : bytes_by_iteration)
        CHECK(sent < iteration_bytes + file_bytes);
}

TEST_CASE("a resumed sender that sends nothing passes its slot to the next", "[sendfile][choice]") {
    sender files;
    if (!files.can_be_asked_about()) return;
    int called = 0;
    on_ring([&](ring& loop) -> task<void> {
        const auto wait_only = [&]() -> task<void> {
            send_budget budget(loop);
            co_await budget;
            ++called;
        };
        files.use_up(loop);
        const std::uint64_t begin = loop.counters().iterations;
        cancel_scope& outer = co_await current_scope();
        task_scope waiters(loop, &outer);
        for (int i = 0; i < 100; ++i) waiters.spawn(wait_only());
        co_await waiters.join();
        CHECK(called == 100);
        CHECK(loop.counters().iterations - begin < 10);  // not one for each
        CHECK(send_budget::available(loop));
    });
}

TEST_CASE("a sender that waits again goes to the end of the queue", "[sendfile][choice]") {
    std::vector<int> order;
    on_ring([&](ring& loop) -> task<void> {
        const auto wait_often = [&](int number) -> task<void> {
            send_budget budget(loop);
            for (int i = 0; i < 3; ++i) {
                co_await budget;
                order.push_back(number);
            }
        };
        cancel_scope& outer = co_await current_scope();
        task_scope waiters(loop, &outer);
        for (int i = 0; i < 3; ++i) waiters.spawn(wait_often(i));
        co_await waiters.join();
    });
    CHECK(order == std::vector<int>{0, 1, 2, 0, 1, 2, 0, 1, 2});
}
