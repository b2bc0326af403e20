// file_state_cache.cpp: the state of a file that is cached between transfers, and its lifetime.
#include "tests/sendfile/recording_kernel.hpp"

#include <kevring/runtime/sleep.hpp>

#include <utility>

#include <sys/stat.h>

using namespace kevring;
using namespace kevring::testing;

namespace {

// The version that the file has now, and a memo of it.
send_options expecting(const test_file& file, file_state_cache& cache) {
    struct stat status{};
    REQUIRE(::fstat(file.native().number(), &status) == 0);
    send_options options;
    options.expected = file_version::from_stat(status);
    options.state_cache = &cache;
    return options;
}

}  // namespace

TEST_CASE("a file that was in memory recently is not queried again", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(sendfile_window + 300'000);
    const test_file file(bytes);
    recording_kernel system;
    system.clock_ns = system.steady_ns();  // a moment is not long

    on_ring(
        [&](ring& loop) -> task<void> {
            file_state_cache cache;
            const send_options options = expecting(file, cache);
            const file_range all{0, bytes.size()};
            cache.record_resident(0, loop.now_ns() - 1'000'000'000);
            const exchange first =
                co_await send_and_receive(loop, ends, file.native(), all, options, bytes.size());
            const unsigned asked = system.residency_queries;
            CHECK(first.report.error == std::error_code{});
            CHECK(asked == 2);

            ends = stream_pair::tcp();
            const exchange second =
                co_await send_and_receive(loop, ends, file.native(), all, options, bytes.size());
            CHECK(second.report.error == std::error_code{});
            CHECK(system.residency_queries == asked);
        },
        system);
}

// A transfer continues wherever the socket was full, and a range begins anywhere.
TEST_CASE("a part that begins within a window of the cache is not queried again",
          "[sendfile][choice]") {
    const std::string bytes = pattern(1'500'000);
    const test_file file(bytes);
    if (!file.can_read_without_waiting()) return;
    recording_kernel system;
    system.clock_ns = system.steady_ns();  // a moment is not long

    on_ring(
        [&](ring& loop) -> task<void> {
            file_state_cache cache;
            const send_options options = expecting(file, cache);
            const auto send_with_queries = [&](file_range range, unsigned count) -> task<void> {
                CAPTURE(range.offset, range.count);
                stream_pair ends = stream_pair::tcp();
                const unsigned before = system.residency_queries;
                const exchange got = co_await send_and_receive(loop, ends, file.native(), range,
                                                               options, range.count);
                CHECK(got.report.error == std::error_code{});
                CHECK(system.residency_queries - before == count);
            };
            const auto to_end = [&](std::uint64_t offset) {
                return file_range{offset, bytes.size() - offset};
            };
            co_await send_with_queries(to_end(100'000), 1);
            co_await send_with_queries(to_end(window + 1), 0);
            const file_range in_two_windows{window + 70'000, 200'000};
            co_await send_with_queries(in_two_windows, 0);
            co_await send_with_queries(to_end(50'000), 1);  // no query has covered the first window
            co_await send_with_queries(to_end(0), 1);
            co_await send_with_queries(to_end(100'000), 0);
        },
        system);
}

TEST_CASE("a file that was unchanged in this loop iteration is not queried again",
          "[sendfile][choice]") {
    const test_file file(pattern(40'000));
    recording_kernel system;
    system.clock_ns = system.steady_ns();  // it stays in memory, too

    on_ring(
        [&](ring& loop) -> task<void> {
            file_state_cache cache;
            const send_options options = expecting(file, cache);
            const file_range all{0, 40'000};
            const std::uint64_t iteration = loop.counters().iterations;
            for (int i = 0; i < 3; ++i) {
                const stream_pair ends = roomy();
                const send_report sent =
                    co_await send_file(loop, ends.local, file.native(), all, options);
                CHECK(sent.bytes_by(send_path::sendfile) == all.count);
            }
            REQUIRE(loop.counters().iterations == iteration);
            CHECK(system.version_queries == 1);

            while (loop.counters().iterations == iteration) co_await yield();
            file.truncate(100);
            const stream_pair ends = roomy();
            const send_report late =
                co_await send_file(loop, ends.local, file.native(), all, options);
            CHECK(late.error == send_errc::file_shrank);
            CHECK(system.version_queries == 2);
        },
        system);
}

// An iteration runs ready tasks, may sleep in the kernel, and then runs the tasks of completions.
TEST_CASE("a file is queried again after the loop has entered the kernel", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const test_file file(pattern(40'000));
    const bool by_memo = GENERATE(true, false);
    CAPTURE(by_memo);
    recording_kernel system;
    bool would_block = true;
    system.before_send_file = [&] {
        if (!std::exchange(would_block, false)) return 0;
        const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 0}, {.tv_sec = 1, .tv_nsec = 0}};
        REQUIRE(::futimens(file.native().number(), times) == 0);
        return EAGAIN;
    };

    on_ring(
        [&](ring& loop) -> task<void> {
            file_state_cache cache;
            send_options options;
            if (by_memo) options = expecting(file, cache);
            const file_range all{0, 40'000};
            co_await yield();
            const std::uint64_t iteration = loop.counters().iterations;
            const send_report sent =
                co_await send_file(loop, ends.local, file.native(), all, options);
            CHECK(loop.counters().iterations == iteration);
            CHECK(sent.error == send_errc::file_changed);
            CHECK(sent.file_bytes == 0);
        },
        system);
}

TEST_CASE("the cache distinguishes windows, and its entries expire", "[sendfile][choice]") {
    constexpr std::int64_t now_ns = 5'000'000'000;
    file_state_cache cache;
    cache.record_resident(window, now_ns);
    cache.record_resident(100 * window, now_ns);

    CHECK(cache.is_resident(window, now_ns + 5'000'000));
    CHECK_FALSE(cache.is_resident(0, now_ns));
    CHECK_FALSE(cache.is_resident(window + 1, now_ns));
    CHECK_FALSE(cache.is_resident(100 * window, now_ns));
    CHECK_FALSE(cache.is_resident(window, now_ns + 20'000'000));
}
