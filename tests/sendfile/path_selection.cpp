// Which path is taken, and what is asked of the kernel: seen through a kernel of the test's own.
#include "tests/sendfile/recording_kernel.hpp"

#include <kevring/runtime/fixed_buffer_pool.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/sendfile/detail/pipe_pool.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>

#include <cerrno>
#include <cstdint>
#include <utility>

using namespace kevring;
using namespace kevring::testing;
using namespace std::chrono_literals;

namespace {

bool residency_is_unknown(const recording_kernel& system, const test_file& file) {
    if (system.knows_cachestat || file.can_read_without_waiting()) return false;
    WARN("not tried without cachestat(2): the file system knows no RWF_NOWAIT");
    return true;
}

}  // namespace

TEST_CASE("a small file goes with its header in one send", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const test_file file(pattern(1000));

    on_ring([&](ring& loop) -> task<void> {
        send_options options;
        options.header = "header";
        const std::uint64_t requests = loop.counters().requests;
        const file_range range{0, 1000};
        const send_report report =
            co_await send_file(loop, ends.local, file.native(), range, options);

        CHECK(report.bytes_sent == 1006);
        CHECK(name_of(report.path()) == name_of(send_path::send));
        CHECK(report.reason() == send_reason::small);
        // The send; the page cache had the file, where the file system lets it be asked.
        const unsigned reads = file.can_read_without_waiting() ? 0 : 1;
        CHECK(loop.counters().requests == requests + 1 + reads);
    });
}

TEST_CASE("sendfile sends a file in the page cache in bounded steps", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(3'000'000);
    const test_file file(bytes);
    recording_kernel system;
    system.knows_cachestat = GENERATE(true, false);
    if (residency_is_unknown(system, file)) return;

    on_ring(
        [&](ring& loop) -> task<void> {
            system.loop = &loop;
            const exchange got = co_await send_and_receive(loop, ends, file.native(), whole,
                                                           send_options(), bytes.size());

            CHECK(difference(got.received, bytes).empty());
            CHECK(got.report.bytes_by(send_path::sendfile) == bytes.size());
            CHECK(got.report.reason() == send_reason::resident);
            CHECK(got.report.path_changes == 0);
        },
        system);

    for (const auto& call : system.sendfile_calls) CHECK(call.end - call.begin <= sendfile_window);
    // After a short count another call may follow in the same iteration.
    for (const auto& [iteration, sent] : system.bytes_by_iteration)
        CHECK(sent < 2 * sendfile_window);
    CHECK(system.largest_query <= sendfile_window);
    CHECK(system.residency_queries >= 2);
}

// The last bytes would fit into one send; they are in memory.
TEST_CASE("the rest of a file that sendfile has begun stays with it", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(GENERATE(270'000U, 290'000U, 300'000U));
    const test_file file(bytes);

    const exchange got = send_over(ends, file.native(), whole, send_options(), bytes.size());

    CHECK(difference(got.received, bytes).empty());
    CHECK(got.report.path_changes == 0);
    CHECK(got.report.bytes_by(send_path::sendfile) == bytes.size());
}

TEST_CASE("nothing to send leaves the socket alone", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const test_file file(pattern(10));

    on_ring([&](ring& loop) -> task<void> {
        const file_range nothing{0, 0};
        const send_report report = co_await send_file(loop, ends.local, file.native(), nothing,
                                                      forced_to(send_path::sendfile));
        CHECK(report.error == std::error_code{});
        CHECK((::fcntl(ends.local.number(), F_GETFL) & O_NONBLOCK) == 0);
        CHECK(report.reason() == send_reason::none);
    });
}

// Other tasks of the loop wait for one iteration, regardless of the number of transfers.
TEST_CASE("many transfers together send no more per iteration than a few", "[sendfile][choice]") {
    constexpr std::size_t transfer_count = 40;
    constexpr std::uint64_t turn_bytes = 2 * 1024 * 1024 + sendfile_window;
    const std::string bytes = pattern(700'000);
    const test_file file(bytes);
    recording_kernel system;
    std::vector<stream_pair> ends;
    for (std::size_t i = 0; i < transfer_count; ++i) ends.push_back(narrowed(stream_pair::tcp()));
    std::size_t ended_count = 0;

    on_ring(
        [&](ring& loop) -> task<void> {
            system.loop = &loop;
            cancel_scope& outer = co_await current_scope();
            task_scope transfers(loop, &outer);
            const auto one = [&](stream_pair& over) -> task<void> {
                const exchange got = co_await send_and_receive(loop, over, file.native(), whole,
                                                               send_options(), bytes.size());
                CHECK(difference(got.received, bytes).empty());
                ++ended_count;
            };
            for (stream_pair& each : ends) transfers.spawn(one(each));
            co_await transfers.join();
        },
        system);

    CHECK(ended_count == transfer_count);
    for (const auto& [iteration, sent] : system.bytes_by_iteration) CHECK(sent <= turn_bytes);
    CHECK(system.bytes_by_iteration.size() >= transfer_count * bytes.size() / turn_bytes);
}

// The property behind a loop that never waits for a disk: sendfile(2) gets no byte of a window that
// is not in memory as a whole.
TEST_CASE("bytes that are not in the page cache never reach sendfile", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(4'000'000);
    const test_file file(bytes);
    recording_kernel system;
    system.knows_cachestat = GENERATE(true, false);
    if (residency_is_unknown(system, file)) return;
    system.nonresident_begin = 1'000'000;
    system.nonresident_end = 1'900'000;

    const exchange got =
        send_over(ends, file.native(), whole, send_options(), bytes.size(), system);

    CHECK(difference(got.received, bytes).empty());
    CHECK(got.report.error == std::error_code{});
    CHECK(got.report.bytes_by(send_path::sendfile) > 2'000'000);
    CHECK(got.report.bytes_by(send_path::splice) >= 900'000);
    CHECK(got.report.path_changes == 2);

    for (const auto& call : system.sendfile_calls) {
        const bool apart =
            call.end <= system.nonresident_begin || call.begin >= system.nonresident_end;
        CHECK(apart);
    }
}

TEST_CASE("worker threads read files whose residency is unknown", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(500'000);
    const test_file file(bytes);
    recording_kernel system;
    system.knows_cachestat = false;
    system.knows_nowait = false;

    const exchange got =
        send_over(ends, file.native(), whole, send_options(), bytes.size(), system);

    CHECK(difference(got.received, bytes).empty());
    CHECK(name_of(got.report.path()) == name_of(send_path::splice));
    CHECK(got.report.reason() == send_reason::not_resident);

    CHECK(system.sendfile_calls.empty());
}

TEST_CASE("a socket that is known not to block is not asked", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(40'000);
    const test_file file(bytes);
    recording_kernel system;
    send_options options;
    options.is_nonblocking = GENERATE(false, true);
    REQUIRE(::fcntl(ends.local.number(), F_SETFL, O_NONBLOCK) == 0);

    const exchange got = send_over(ends, file.native(), whole, options, bytes.size(), system);

    CHECK(difference(got.received, bytes).empty());
    CHECK(got.report.bytes_by(send_path::sendfile) == bytes.size());
    CHECK(system.flag_queries == (options.is_nonblocking ? 0 : 1));
}

TEST_CASE("a file system without sendfile is read and sent", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(500'000);
    const test_file file(bytes);
    recording_kernel system;
    system.fail_send_file = GENERATE(EINVAL, ENOSYS, EOPNOTSUPP);

    send_options options;
    options.header = "header";
    const exchange got = send_over(ends, file.native(), whole, options, bytes.size() + 6, system);

    CHECK(difference(got.received, "header" + bytes).empty());
    CHECK(got.report.path() != send_path::sendfile);

    CHECK(system.sendfile_calls.size() == 1);
}

TEST_CASE("an error of sendfile reaches the caller as it is", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const test_file file(pattern(500'000));
    recording_kernel system;
    system.fail_send_file = GENERATE(EIO, ECONNRESET, ENOMEM);

    on_ring(
        [&](ring& loop) -> task<void> {
            const send_report report = co_await send_file(loop, ends.local, file.native());

            CHECK(report.error == std::error_code(system.fail_send_file, std::system_category()));
        },
        system);
}

TEST_CASE("short counts and interruptions lose and double nothing", "[sendfile]") {
    const send_path path =
        GENERATE(send_path::sendfile, send_path::read_send, send_path::send, send_path::zero_copy);
    INFO(name_of(path));
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(600'000);
    const test_file file(bytes);
    recording_kernel system;
    system.inject_faults = 1;

    send_options options;
    options.path = path;
    options.header = "some header";
    options.trailer = "some trailer";
    const exchange got = send_over(ends, file.native(), whole, options, bytes.size() + 23, system);

    CHECK(got.report.error == std::error_code{});
    CHECK(difference(got.received, "some header" + bytes + "some trailer").empty());
}

TEST_CASE("without a pipe to be had, the ring reads", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(600'000);
    const test_file file(bytes);
    recording_kernel system;
    system.has_pipes = false;
    system.nonresident_end = bytes.size();

    // Pipes that wait from tests before are taken, so that one has to be opened.
    std::vector<std::unique_ptr<detail::pooled_pipe>> taken;
    while (detail::pooled_pipe::idle_count() > 0)
        taken.push_back(std::make_unique<detail::pooled_pipe>(system));
    send_options options;
    if (GENERATE(true, false)) options.path = send_path::splice;
    const exchange got = send_over(ends, file.native(), whole, options, bytes.size(), system);

    CHECK(got.report.error == std::error_code{});
    CHECK(difference(got.received, bytes).empty());
    CHECK(got.report.bytes_by(send_path::read_send) == bytes.size());
    CHECK(got.report.reason() == send_reason::fallback);
}

TEST_CASE("a file that may change under way is copied", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(600'000);
    const test_file file(bytes);

    send_options options;
    options.force_copy = true;
    const exchange got = send_over(ends, file.native(), whole, options, bytes.size());

    CHECK(difference(got.received, bytes).empty());
    CHECK(name_of(got.report.path()) == name_of(send_path::read_send));
    CHECK(got.report.reason() == send_reason::copy_required);
}

// Loopback copies nevertheless: the transfer leaves the path after the first notification.
TEST_CASE("zero copy ends when the kernel reports a copy", "[sendfile][choice][locked_memory]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(3'000'000);
    const test_file file(bytes);

    send_options options;
    options.zero_copy_bytes_min = 1'000'000;
    const exchange got = send_over(ends, file.native(), whole, options, bytes.size());

    CHECK(difference(got.received, bytes).empty());
    CHECK(got.report.path_reasons[static_cast<std::size_t>(send_path::zero_copy)] ==
          send_reason::requested);
    CHECK(got.report.kernel_copied);
    CHECK(got.report.bytes_by(send_path::zero_copy) <= 2 * window);
}

TEST_CASE("zero copy is left alone below its threshold", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(300'000);
    const test_file file(bytes);

    send_options options;
    options.zero_copy_bytes_min = 1'000'000;
    const exchange got = send_over(ends, file.native(), whole, options, bytes.size());

    CHECK(difference(got.received, bytes).empty());
    CHECK(got.report.bytes_by(send_path::zero_copy) == 0);
}

TEST_CASE("a client that does not read holds one window of memory at most", "[sendfile]") {
    const send_path path = GENERATE(send_path::send, send_path::sendfile, send_path::read_send,
                                    send_path::splice, send_path::zero_copy);
    INFO(name_of(path));
    stream_pair ends = narrowed(stream_pair::tcp());
    const test_file file(pattern(more_than_a_socket_holds));

    on_ring([&](ring& loop) -> task<void> {
        const auto looking = [](ring& loop) -> task<std::pair<std::size_t, std::size_t>> {
            static_cast<void>(co_await sleep_for(100ms));
            const std::size_t windows = detail::window_buffer::in_use_count() +
                                        loop.service<kevring::fixed_buffer_pool>().in_use_count();
            co_return std::pair(windows, detail::pooled_pipe::in_use_count());
        };
        send_options options;
        options.path = path;
        task<send_report> send =
            with_timeout(send_file(loop, ends.local, file.native(), whole, options), 200ms);
        task<std::pair<std::size_t, std::size_t>> look = looking(loop);
        const auto [report, held] = co_await when_all(std::move(send), std::move(look));

        CHECK(report.error == std::errc::timed_out);
        CHECK(held.first <= (path == send_path::sendfile || path == send_path::splice ? 0U : 1U));
        CHECK(held.second == (path == send_path::splice ? 1U : 0U));
        ends.close();
    });
    CHECK(detail::pooled_pipe::in_use_count() == 0);
}
