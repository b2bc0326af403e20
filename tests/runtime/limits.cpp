// limits.cpp: durations, lengths, offsets and counts at the limits of their types. A value that is
// too large means "as much as there is" or is refused; it never wraps round to a small one.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"

#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/operations/advise.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/runtime/operations/splice.hpp>
#include <kevring/runtime/operations/write.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

using kevring::clamped_duration;
using kevring::nanoseconds;
using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

namespace {

using years = std::chrono::duration<std::int64_t, std::ratio<31'556'952>>;
using seconds_double = std::chrono::duration<double>;

const std::array<clamped_duration, 9> longest{
    std::chrono::hours::max(),
    std::chrono::minutes::max(),
    std::chrono::seconds::max(),
    std::chrono::milliseconds::max(),
    nanoseconds::max(),
    years::max(),
    std::chrono::hours(3'000'000),
    seconds_double(std::numeric_limits<double>::infinity()),
    std::chrono::duration<std::uint64_t>(std::numeric_limits<std::uint64_t>::max()),
};

const std::array<clamped_duration, 6> shortest{
    std::chrono::hours::min(),
    std::chrono::seconds::min(),
    nanoseconds::min(),
    seconds_double(-1.0),
    nanoseconds(0),
    seconds_double(std::numeric_limits<double>::quiet_NaN()),
};

kevring::fd scratch(std::size_t byte_count) {
    kevring::fd file(::memfd_create("kevring-limits", MFD_CLOEXEC));
    const std::string bytes(byte_count, 'b');
    REQUIRE(::pwrite(file.number(), bytes.data(), bytes.size(), 0) ==
            static_cast<ssize_t>(byte_count));
    return file;
}

}  // namespace

TEST_CASE("a duration of any unit becomes nanoseconds within their limits", "[runtime][limits]") {
    CHECK(nanoseconds(clamped_duration(std::chrono::hours::max())) == nanoseconds::max());
    CHECK(nanoseconds(clamped_duration(std::chrono::seconds::min())) == nanoseconds::min());
    CHECK(nanoseconds(clamped_duration(1500us)) == 1'500'000ns);
    CHECK(nanoseconds(clamped_duration(seconds_double(0.25))) == 250ms);
    CHECK(nanoseconds(clamped_duration(nanoseconds::max() - 1ns)) == nanoseconds::max() - 1ns);
    CHECK(nanoseconds(clamped_duration(-3h)) == -3h);
}

TEST_CASE("a duration in a fraction of a second does not overflow", "[runtime][limits]") {
    using frames = std::chrono::duration<std::int64_t, std::ratio<1, 60>>;
    using thirds = std::chrono::duration<std::uint64_t, std::ratio<1, 3>>;
    constexpr std::int64_t year_s = 31'556'952;
    CHECK(nanoseconds(clamped_duration(frames(60 * year_s * 10 + 6))) == years(10) + 100ms);
    CHECK(nanoseconds(clamped_duration(frames(-60 * year_s * 10))) == -years(10));
    CHECK(nanoseconds(clamped_duration(thirds(3 * std::uint64_t{year_s} * 200))) == years(200));
    CHECK(nanoseconds(clamped_duration(frames::max())) == nanoseconds::max());
    CHECK(nanoseconds(clamped_duration(thirds(std::numeric_limits<std::uint64_t>::max()))) ==
          nanoseconds::max());
}

TEST_CASE("the longest durations do not end at once", "[runtime][limits]") {
    for (const clamped_duration duration : longest) {
        scripted_kernel system;
        system.clock_ns = 1'000'000'000'000;
        ring loop({}, system);
        run_on(loop, [&]() -> task<void> {
            {
                const auto limit = co_await kevring::within(10s);
                const auto slept = co_await kevring::sleep_for(duration);
                CHECK_FALSE(slept.has_value());
                CHECK(slept.error() == std::errc::timed_out);
            }
            {
                const auto limit = co_await kevring::within(duration);
                const auto slept = co_await kevring::sleep_for(10s);
                CHECK(slept.has_value());
            }
            {
                auto limit = co_await kevring::within(1ns);
                limit.expires_after(duration);
                const auto slept = co_await kevring::sleep_for(10s);
                CHECK(slept.has_value());
            }
            const auto slept = co_await kevring::with_timeout(kevring::sleep_for(10s), duration);
            CHECK(slept.has_value());
        });
    }
}

TEST_CASE("a duration that is not positive ends at once", "[runtime][limits]") {
    for (const clamped_duration duration : shortest) {
        scripted_kernel system;
        system.clock_ns = 1'000'000'000'000;
        ring loop({}, system);
        run_on(loop, [&]() -> task<void> {
            const auto slept = co_await kevring::sleep_for(duration);
            CHECK(slept.has_value());
            const auto late = co_await kevring::with_timeout(kevring::sleep_for(10s), duration);
            CHECK_FALSE(late.has_value());
            CHECK(late.error() == std::errc::timed_out);
        });
        CHECK(*system.clock_ns < 1'000'000'000'000 + 1'000'000'000);
    }
}

TEST_CASE("a time of any unit becomes nanoseconds within their limits", "[runtime][limits]") {
    using kevring::clamped_time;
    using kevring::steady_time;
    using std::chrono::steady_clock;
    using hour = std::chrono::time_point<steady_clock, std::chrono::hours>;
    using second_double = std::chrono::time_point<steady_clock, seconds_double>;
    CHECK(steady_time(clamped_time(hour::max())) == steady_time::max());
    CHECK(steady_time(clamped_time(hour::min())) == steady_time::min());
    CHECK(steady_time(clamped_time(hour(3h))) == steady_time(3h));
    CHECK(steady_time(clamped_time(second_double(seconds_double(0.5)))) == steady_time(500ms));
    CHECK(steady_time(clamped_time(steady_time(1ns))) == steady_time(1ns));
}

TEST_CASE("a deadline in a coarse unit at its limit is never", "[runtime][limits]") {
    using hour = std::chrono::time_point<std::chrono::steady_clock, std::chrono::hours>;
    scripted_kernel system;
    system.clock_ns = 1'000'000'000'000;
    ring loop({}, system);
    run_on(loop, [&]() -> task<void> {
        const auto slept = co_await kevring::with_deadline(kevring::sleep_for(10s), hour::max());
        CHECK(slept.has_value());
        {
            const auto limit = co_await kevring::until(hour::max());
            const auto inside = co_await kevring::sleep_for(10s);
            CHECK(inside.has_value());
        }
        const auto limited = co_await kevring::with_timeout(kevring::sleep_until(hour::max()), 10s);
        CHECK(limited.error() == std::errc::timed_out);
        const auto past = co_await kevring::sleep_until(hour::min());
        CHECK(past.has_value());
    });
}

TEST_CASE("a deadline at the limits of the clock is never or now", "[runtime][limits]") {
    scripted_kernel system;
    system.clock_ns = 1'000'000'000'000;
    ring loop({}, system);
    run_on(loop, [&]() -> task<void> {
        const auto past = co_await kevring::sleep_until(kevring::steady_time::min());
        CHECK(past.has_value());
        const auto never =
            co_await kevring::with_deadline(kevring::sleep_for(10s), kevring::steady_time::max());
        CHECK(never.has_value());
        const auto late =
            co_await kevring::with_deadline(kevring::sleep_for(10s), kevring::steady_time::min());
        CHECK(late.error() == std::errc::timed_out);
    });
}

TEST_CASE("offsets beyond the largest of a file are refused", "[runtime][limits]") {
    const std::uint64_t offset =
        GENERATE((std::uint64_t{1} << 63), (std::uint64_t{1} << 63) + 1, ~std::uint64_t{0} - 1);
    ring loop;
    const kevring::fd file = scratch(10);
    run_on(loop, [&]() -> task<void> {
        std::array<std::byte, 4> buffer{};
        kevring::read_operation read(loop, file, buffer, offset);
        const auto received = co_await read;
        CHECK_FALSE(received.has_value());
        kevring::write_operation write(loop, file, buffer, offset);
        const auto written = co_await write;
        CHECK_FALSE(written.has_value());
    });
    CHECK(::lseek(file.number(), 0, SEEK_CUR) == 0);
}

TEST_CASE("more parts than one request can have are refused", "[runtime][limits]") {
    const std::size_t count =
        GENERATE((std::size_t{1} << 32) + 1, (std::size_t{1} << 32), SIZE_MAX / sizeof(iovec));
    ring loop;
    const kevring::fd file = scratch(10);
    run_on(loop, [&]() -> task<void> {
        std::array<std::byte, 4> buffer{};
        const iovec part{buffer.data(), buffer.size()};
        kevring::readv_operation read(loop, file, std::span(&part, count), 0);
        const auto received = co_await read;
        CHECK_FALSE(received.has_value());
        CHECK(received.error() == std::errc::invalid_argument);
        kevring::writev_operation write(loop, file, std::span(&part, count), 0);
        const auto written = co_await write;
        CHECK_FALSE(written.has_value());
        CHECK(written.error() == std::errc::invalid_argument);
    });
}

TEST_CASE("a length beyond one request reads what there is", "[runtime][limits]") {
    const std::size_t count = GENERATE(std::size_t{1} << 32, SIZE_MAX, std::size_t{SSIZE_MAX});
    ring loop;
    const kevring::fd file = scratch(10);
    int pipe[2];
    REQUIRE(::pipe2(pipe, O_CLOEXEC) == 0);
    const kevring::fd source(pipe[0]);
    const kevring::fd target(pipe[1]);
    run_on(loop, [&]() -> task<void> {
        kevring::splice_operation splice(loop, file, 0, target, -1, count);
        const auto moved = co_await splice;
        CHECK(moved.value() == 10);
        kevring::advise_operation advise(loop, file, 0, count, POSIX_FADV_NORMAL);
        const auto advised = co_await advise;
        CHECK(advised.has_value());
    });
}

TEST_CASE("a loop that may spin for the longest time still wakes up", "[runtime][limits]") {
    kevring::ring_options options;
    options.spin = std::chrono::microseconds::max();
    ring loop(options);
    run_on(loop, []() -> task<void> {
        const auto slept = co_await kevring::sleep_for(1ms);
        CHECK(slept.has_value());
    });
}
