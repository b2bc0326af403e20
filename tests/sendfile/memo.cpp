// What is remembered of a file between transfers, and for how long.
#include "tests/sendfile/watching_kernel.hpp"

#include <kevring/runtime/sleep.hpp>

#include <utility>

#include <sys/stat.h>

using namespace kevring;
using namespace kevring::testing;

namespace {

// The version that the file has now, and a memo of it.
send_options expecting(const test_file& file, file_memo& memo) {
    struct stat status{};
    REQUIRE(::fstat(file.native().number(), &status) == 0);
    send_options options;
    options.expected = file_version::of(status);
    options.memo = &memo;
    return options;
}

}  // namespace

TEST_CASE("a file that was seen in memory a moment ago is not asked about again",
          "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(1'300'000);
    const test_file file(bytes);
    watching_kernel system;
    system.clock_ns = system.steady_ns();  // a moment is not long

    on_ring(
        [&](ring& on) -> task<void> {
            file_memo memo;
            const send_options options = expecting(file, memo);
            const file_range all{0, bytes.size()};
            memo.note(0, on.now_ns() - 1'000'000'000);
            const exchange first =
                co_await send_and_receive(on, ends, file.native(), all, options, bytes.size());
            const unsigned asked = system.page_questions;
            CHECK(first.report.error == std::error_code{});
            CHECK(asked == 2);

            memo.note(0, on.now_ns());
            memo.note(sendfile_window, on.now_ns());
            ends = stream_pair::tcp();
            const exchange second =
                co_await send_and_receive(on, ends, file.native(), all, options, bytes.size());
            CHECK(second.report.error == std::error_code{});
            CHECK(system.page_questions == asked);
        },
        system);
}

TEST_CASE("a file that was seen unchanged in this turn is not looked at again",
          "[sendfile][choice]") {
    const test_file file(pattern(40'000));
    watching_kernel system;
    system.clock_ns = system.steady_ns();  // it stays in memory, too

    on_ring(
        [&](ring& on) -> task<void> {
            file_memo memo;
            const send_options options = expecting(file, memo);
            const file_range all{0, 40'000};
            const std::uint64_t turn = on.counters().turns;
            for (int i = 0; i < 3; ++i) {
                const stream_pair ends = roomy();
                const send_report sent =
                    co_await send_file(on, ends.near, file.native(), all, options);
                CHECK(sent.bytes_by(send_path::sendfile) == all.count);
            }
            REQUIRE(on.counters().turns == turn);
            CHECK(system.version_questions == 1);

            while (on.counters().turns == turn) co_await yield();
            file.truncate(100);
            const stream_pair ends = roomy();
            const send_report late = co_await send_file(on, ends.near, file.native(), all, options);
            CHECK(late.error == send_errc::file_shrank);
            CHECK(system.version_questions == 2);
        },
        system);
}

// A turn runs what is ready, then may sleep in the kernel, and then runs what has come from there.
TEST_CASE("a file is looked at again when the loop has been in the kernel", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const test_file file(pattern(40'000));
    const bool by_memo = GENERATE(true, false);
    CAPTURE(by_memo);
    watching_kernel system;
    bool is_full = true;
    system.before_send_file = [&] {
        if (!std::exchange(is_full, false)) return 0;
        const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 0}, {.tv_sec = 1, .tv_nsec = 0}};
        REQUIRE(::futimens(file.native().number(), times) == 0);
        return EAGAIN;
    };

    on_ring(
        [&](ring& on) -> task<void> {
            file_memo memo;
            send_options options;
            if (by_memo) options = expecting(file, memo);
            const file_range all{0, 40'000};
            co_await yield();
            const std::uint64_t turn = on.counters().turns;
            const send_report sent = co_await send_file(on, ends.near, file.native(), all, options);
            CHECK(on.counters().turns == turn);
            CHECK(sent.error == send_errc::file_changed);
            CHECK(sent.file_bytes == 0);
        },
        system);
}

TEST_CASE("a memo keeps windows apart, and forgets", "[sendfile][choice]") {
    constexpr std::int64_t now_ns = 5'000'000'000;
    file_memo memo;
    memo.note(window, now_ns);
    memo.note(100 * window, now_ns);

    CHECK(memo.holds(window, now_ns + 5'000'000));
    CHECK_FALSE(memo.holds(0, now_ns));
    CHECK_FALSE(memo.holds(window + 1, now_ns));
    CHECK_FALSE(memo.holds(100 * window, now_ns));
    CHECK_FALSE(memo.holds(window, now_ns + 20'000'000));
}
