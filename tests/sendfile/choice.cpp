// Which path is taken, and what is asked of the kernel: seen through a kernel of the test's own.
#include "tests/sendfile/transfer_test.hpp"

#include <kevring/runtime/fixed_buffer_pool.hpp>
#include <kevring/runtime/kernel.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/sendfile/detail/pipe_pool.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>

using namespace kevring;
using namespace kevring::testing;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t window = 256 * 1024;

// Passes on to Linux, and says of a part of every file that it is not in memory.
class watching_kernel : public kernel {
public:
    std::uint64_t absent_begin = 0;
    std::uint64_t absent_end = 0;
    bool knows_cachestat = true;
    bool knows_nowait = true;
    int fail_send_file = 0;
    std::function<int()> before_send_file;  // the error that the call gives, or 0
    unsigned unruly = 0;                    // short counts, EINTR and EAGAIN in between

    struct call {
        std::uint64_t begin;
        std::uint64_t end;
    };
    std::vector<call> sendfile_calls;
    const ring* on = nullptr;
    std::map<std::uint64_t, std::uint64_t> bytes_by_turn;
    unsigned page_questions = 0;
    unsigned version_questions = 0;
    unsigned flag_questions = 0;
    std::uint64_t largest_question = 0;

    ssize_t send_file(int socket, int file, off_t* file_offset,
                      std::size_t count) noexcept override {
        const auto begin = static_cast<std::uint64_t>(*file_offset);
        sendfile_calls.push_back({begin, begin + count});
        if (before_send_file)
            if (const int error = before_send_file()) return -error;
        if (fail_send_file != 0) return -fail_send_file;
        if (unruly > 0) {
            switch (unruly++ % 4) {
                case 0: return -EINTR;
                case 1: return -EAGAIN;
                case 2: count = std::min<std::size_t>(count, 1 + unruly * 37); break;
                default: break;
            }
        }
        const ssize_t sent = kernel::send_file(socket, file, file_offset, count);
        if (sent > 0 && on != nullptr)
            bytes_by_turn[on->counters().turns] += static_cast<std::uint64_t>(sent);
        return sent;
    }
    ssize_t send_now(int socket, const msghdr& message, int flags) noexcept override {
        if (unruly > 0) {
            switch (unruly++ % 4) {
                case 0: return -EINTR;
                case 1: return -EAGAIN;
                case 2: {
                    iovec one = message.msg_iov[0];
                    one.iov_len = 1;
                    msghdr less = message;
                    less.msg_iov = &one;
                    less.msg_iovlen = 1;
                    return kernel::send_now(socket, less, flags);
                }
                default: break;
            }
        }
        return kernel::send_now(socket, message, flags);
    }
    ssize_t splice_now(int source, off_t* source_offset, int target, std::size_t count,
                       unsigned flags) noexcept override {
        if (unruly > 0) {
            switch (unruly++ % 4) {
                case 0: return -EINTR;
                case 1: return -EAGAIN;
                case 2: count = std::min<std::size_t>(count, 1 + unruly * 37); break;
                default: break;
            }
        }
        return kernel::splice_now(source, source_offset, target, count, flags);
    }
    ssize_t read_nowait(int file, const iovec* parts, int part_count,
                        off_t file_offset) noexcept override {
        if (!knows_nowait) return -EOPNOTSUPP;
        const auto begin = static_cast<std::uint64_t>(file_offset);
        if (begin < absent_end && begin + parts->iov_len > absent_begin) return -EAGAIN;
        return kernel::read_nowait(file, parts, part_count, file_offset);
    }
    ssize_t resident_pages(int file, std::uint64_t file_offset,
                           std::uint64_t count) noexcept override {
        ++page_questions;
        largest_question = std::max(largest_question, count);
        if (!knows_cachestat) return -ENOSYS;
        if (file_offset < absent_end && file_offset + count > absent_begin) return 0;
        return kernel::resident_pages(file, file_offset, count);
    }
    int stat_file(int file, struct stat& status) noexcept override {
        ++version_questions;
        return kernel::stat_file(file, status);
    }
    int make_nonblocking(int file) noexcept override {
        ++flag_questions;
        return kernel::make_nonblocking(file);
    }
    std::optional<std::int64_t> clock_ns;  // set: time stands still
    std::int64_t steady_ns() noexcept override { return clock_ns.value_or(kernel::steady_ns()); }
    bool has_pipes = true;
    int open_pipe(int (&ends)[2], std::size_t capacity_bytes) noexcept override {
        return has_pipes ? kernel::open_pipe(ends, capacity_bytes) : -EMFILE;
    }
};

// The version that the file has now, and a memo of it.
send_options expecting(const test_file& file, file_memo& memo) {
    struct stat status{};
    REQUIRE(::fstat(file.native().number(), &status) == 0);
    send_options options;
    options.expected = file_version::of(status);
    options.memo = &memo;
    return options;
}

bool nobody_can_tell(const watching_kernel& system, const test_file& file) {
    if (system.knows_cachestat || file.can_read_without_waiting()) return false;
    WARN("not tried without cachestat(2): the file system knows no RWF_NOWAIT");
    return true;
}

}  // namespace

TEST_CASE("a small file goes with its header in one send", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const test_file file(pattern(1000));

    on_ring([&](ring& on) -> task<void> {
        send_options options;
        options.header = "header";
        const std::uint64_t requests = on.counters().requests;
        const file_range range{0, 1000};
        const send_report report = co_await send_file(on, ends.near, file.native(), range, options);

        CHECK(report.bytes_sent == 1006);
        CHECK(name_of(report.path()) == name_of(send_path::send));
        CHECK(report.reason() == send_reason::small);
        // The send; the page cache had the file, where the file system lets it be asked.
        const unsigned reads = file.can_read_without_waiting() ? 0 : 1;
        CHECK(on.counters().requests == requests + 1 + reads);
    });
}

TEST_CASE("a file in the page cache goes by sendfile in bounded turns", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(3'000'000);
    const test_file file(bytes);
    watching_kernel system;
    system.knows_cachestat = GENERATE(true, false);
    if (nobody_can_tell(system, file)) return;

    on_ring(
        [&](ring& on) -> task<void> {
            system.on = &on;
            const exchange got = co_await send_and_receive(on, ends, file.native(), whole,
                                                           send_options(), bytes.size());

            CHECK(difference(got.received, bytes).empty());
            CHECK(got.report.bytes_by(send_path::sendfile) == bytes.size());
            CHECK(got.report.reason() == send_reason::resident);
            CHECK(got.report.path_changes == 0);
        },
        system);

    for (const auto& call : system.sendfile_calls) CHECK(call.end - call.begin <= window);
    for (const auto& [turn, sent] : system.bytes_by_turn) CHECK(sent <= window);
    CHECK(system.largest_question <= window);
    CHECK(system.page_questions >= 12);
}

// The last bytes would fit one send; they are in memory, and on their way.
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

    on_ring([&](ring& on) -> task<void> {
        const file_range nothing{0, 0};
        const send_report report =
            co_await send_file(on, ends.near, file.native(), nothing, by(send_path::sendfile));
        CHECK(report.error == std::error_code{});
        CHECK((::fcntl(ends.near.number(), F_GETFL) & O_NONBLOCK) == 0);
        CHECK(report.reason() == send_reason::none);
    });
}

// Whoever else has something on the loop waits for one turn, however many transfers there are.
TEST_CASE("many transfers together move no more in a turn than a few", "[sendfile][choice]") {
    constexpr std::size_t transfer_count = 40;
    constexpr std::uint64_t turn_bytes = 2 * 1024 * 1024 + window;
    const std::string bytes = pattern(700'000);
    const test_file file(bytes);
    watching_kernel system;
    std::vector<stream_pair> ends;
    for (std::size_t i = 0; i < transfer_count; ++i) ends.push_back(narrowed(stream_pair::tcp()));
    std::size_t ended_count = 0;

    on_ring(
        [&](ring& on) -> task<void> {
            system.on = &on;
            cancel_scope& outer = co_await current_scope();
            task_scope transfers(on, &outer);
            const auto one = [&](stream_pair& over) -> task<void> {
                const exchange got = co_await send_and_receive(on, over, file.native(), whole,
                                                               send_options(), bytes.size());
                CHECK(difference(got.received, bytes).empty());
                ++ended_count;
            };
            for (stream_pair& each : ends) transfers.spawn(one(each));
            co_await transfers.join();
        },
        system);

    CHECK(ended_count == transfer_count);
    for (const auto& [turn, sent] : system.bytes_by_turn) CHECK(sent <= turn_bytes);
    CHECK(system.bytes_by_turn.size() >= transfer_count * bytes.size() / turn_bytes);
}

// The property behind a loop that never waits for a disk: sendfile(2) gets no byte of a window that
// is not in memory as a whole.
TEST_CASE("what is not in the page cache never gets into sendfile", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(4'000'000);
    const test_file file(bytes);
    watching_kernel system;
    system.knows_cachestat = GENERATE(true, false);
    if (nobody_can_tell(system, file)) return;
    system.absent_begin = 1'000'000;
    system.absent_end = 1'900'000;

    const exchange got =
        send_over(ends, file.native(), whole, send_options(), bytes.size(), system);

    CHECK(difference(got.received, bytes).empty());
    CHECK(got.report.error == std::error_code{});
    CHECK(got.report.bytes_by(send_path::sendfile) > 2'000'000);
    CHECK(got.report.bytes_by(send_path::splice) >= 900'000);
    CHECK(got.report.path_changes == 2);

    for (const auto& call : system.sendfile_calls) {
        const bool apart = call.end <= system.absent_begin || call.begin >= system.absent_end;
        CHECK(apart);
    }
}

TEST_CASE("where nobody can tell what is in memory, workers wait for the disk",
          "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(500'000);
    const test_file file(bytes);
    watching_kernel system;
    system.knows_cachestat = false;
    system.knows_nowait = false;

    const exchange got =
        send_over(ends, file.native(), whole, send_options(), bytes.size(), system);

    CHECK(difference(got.received, bytes).empty());
    CHECK(name_of(got.report.path()) == name_of(send_path::splice));
    CHECK(got.report.reason() == send_reason::not_resident);

    CHECK(system.sendfile_calls.empty());
}

TEST_CASE("a file that was seen in memory a moment ago is not asked about again",
          "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(300'000);
    const test_file file(bytes);
    watching_kernel system;
    system.clock_ns = system.steady_ns();  // a moment is not long

    on_ring(
        [&](ring& on) -> task<void> {
            file_memo memo;
            const send_options options = expecting(file, memo);
            const file_range all{0, bytes.size()};
            memo.note(0, on.now_ns() - 1'000'000'000);
            const send_report first =
                co_await send_file(on, ends.near, file.native(), all, options);
            const unsigned asked = system.page_questions;
            CHECK(first.error == std::error_code{});
            CHECK(asked == 2);

            memo.note(0, on.now_ns());
            memo.note(window, on.now_ns());
            const send_report second =
                co_await send_file(on, ends.near, file.native(), all, options);
            CHECK(second.error == std::error_code{});
            CHECK(system.page_questions == asked);
        },
        system);
}

TEST_CASE("a file that was seen unchanged in this turn is not looked at again",
          "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const test_file file(pattern(40'000));
    watching_kernel system;

    on_ring(
        [&](ring& on) -> task<void> {
            file_memo memo;
            const send_options options = expecting(file, memo);
            const file_range all{0, 40'000};
            const std::uint64_t turn = on.counters().turns;
            for (int i = 0; i < 3; ++i) {
                const send_report sent =
                    co_await send_file(on, ends.near, file.native(), all, options);
                CHECK(sent.bytes_by(send_path::sendfile) == all.count);
            }
            REQUIRE(on.counters().turns == turn);
            CHECK(system.version_questions == 1);

            while (on.counters().turns == turn) co_await yield();
            file.truncate(100);
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

TEST_CASE("a socket that is known not to block is not asked", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(40'000);
    const test_file file(bytes);
    watching_kernel system;
    send_options options;
    options.is_nonblocking = GENERATE(false, true);
    REQUIRE(::fcntl(ends.near.number(), F_SETFL, O_NONBLOCK) == 0);

    const exchange got = send_over(ends, file.native(), whole, options, bytes.size(), system);

    CHECK(difference(got.received, bytes).empty());
    CHECK(got.report.bytes_by(send_path::sendfile) == bytes.size());
    CHECK(system.flag_questions == (options.is_nonblocking ? 0 : 1));
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

TEST_CASE("a file system without sendfile is read and sent", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(500'000);
    const test_file file(bytes);
    watching_kernel system;
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
    watching_kernel system;
    system.fail_send_file = GENERATE(EIO, ECONNRESET, ENOMEM);

    on_ring(
        [&](ring& on) -> task<void> {
            const send_report report = co_await send_file(on, ends.near, file.native());

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
    watching_kernel system;
    system.unruly = 1;

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
    watching_kernel system;
    system.has_pipes = false;
    system.absent_end = bytes.size();

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
    CHECK(got.report.reason() == send_reason::refused);
}

TEST_CASE("a file that may change under way is copied", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(600'000);
    const test_file file(bytes);

    send_options options;
    options.by_copy = true;
    const exchange got = send_over(ends, file.native(), whole, options, bytes.size());

    CHECK(difference(got.received, bytes).empty());
    CHECK(name_of(got.report.path()) == name_of(send_path::read_send));
    CHECK(got.report.reason() == send_reason::copy_wanted);
}

// Loopback copies what it is asked not to copy: the path is left as soon as the kernel says so.
TEST_CASE("zero copy ends when the kernel copies, and says so", "[sendfile][choice]") {
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(3'000'000);
    const test_file file(bytes);

    send_options options;
    options.zero_copy_bytes_min = 1'000'000;
    const exchange got = send_over(ends, file.native(), whole, options, bytes.size());

    CHECK(difference(got.received, bytes).empty());
    CHECK(got.report.path_reasons[static_cast<std::size_t>(send_path::zero_copy)] ==
          send_reason::asked_for);
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

    on_ring([&](ring& on) -> task<void> {
        const auto looking = [](ring& on) -> task<std::pair<std::size_t, std::size_t>> {
            co_await sleep_for(100ms);
            const std::size_t windows =
                detail::window_buffer::out_count() + on.fixed_buffers().out_count();
            co_return std::pair(windows, detail::pooled_pipe::out_count());
        };
        send_options options;
        options.path = path;
        task<send_report> send =
            with_timeout(send_file(on, ends.near, file.native(), whole, options), 200ms);
        task<std::pair<std::size_t, std::size_t>> look = looking(on);
        const auto [report, held] = co_await when_all(std::move(send), std::move(look));

        CHECK(report.error == std::errc::timed_out);
        CHECK(held.first <= (path == send_path::sendfile || path == send_path::splice ? 0U : 1U));
        CHECK(held.second == (path == send_path::splice ? 1U : 0U));
        ends.close();
    });
    CHECK(detail::pooled_pipe::out_count() == 0);
}
