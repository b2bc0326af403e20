// try_send_file.cpp: bytes that are sent without a wait, and the begin of the rest.
#include "tests/sendfile/recording_kernel.hpp"

#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/when.hpp>
#include <kevring/sendfile/send_queue.hpp>

#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

using namespace kevring;
using namespace kevring::testing;

namespace {

constexpr std::size_t medium_bytes = 200'000;

// The byte budget of all transfers of a ring in one iteration.
constexpr std::size_t iteration_bytes = 2 * 1024 * 1024;

// A file in memory and a connection; header and trailer go along.
struct medium_file {
    medium_file() {
        struct stat status{};
        REQUIRE(::fstat(file.native().number(), &status) == 0);
        options.expected = file_version::from_stat(status);
        options.header = std::string_view(header);
        options.trailer = std::string_view(trailer);
    }

    bool can_be_asked_about() const {
        if (file.can_read_without_waiting()) return true;
        WARN("not tried: the file system knows no RWF_NOWAIT");
        return false;
    }
    send_report try_to_send(ring& loop) const {
        return try_send_file(loop, ends.local, file.native(), all, options);
    }
    std::string message() const { return header + bytes + trailer; }

    const std::string header = "a header ";
    const std::string trailer = " a trailer";
    const std::string bytes = pattern(medium_bytes);
    const file_range all{0, medium_bytes};
    const test_file file{bytes};
    stream_pair ends = roomy();
    send_options options;
};

// Sends the file over one new connection after another, alternating between the rings, until a call
// sends no byte. Returns the number of bytes sent. A socket that accepts a part was short of memory.
std::uint64_t send_until_refused(const medium_file& sent, std::span<ring* const> rings) {
    std::vector<stream_pair> ends;
    std::uint64_t sent_bytes = 0;
    send_report report;
    do {
        ring& loop = *rings[ends.size() % rings.size()];
        ends.push_back(roomy());
        report = try_send_file(loop, ends.back().local, sent.file.native(), sent.all, sent.options);
        sent_bytes += report.file_bytes;
    } while (report.bytes_sent > 0 && sent_bytes < 100 * medium_bytes);
    CHECK(report.error == std::errc::operation_would_block);
    return sent_bytes;
}

void fill(fd_ref socket, std::size_t& filled) {
    const std::string some(64 * 1024, 'x');
    for (;;) {
        const ssize_t sent = ::send(socket.number(), some.data(), some.size(), MSG_DONTWAIT);
        if (sent < 0) break;
        filled += static_cast<std::size_t>(sent);
    }
    REQUIRE(errno == EAGAIN);
}

}  // namespace

TEST_CASE("a file in memory goes at once, whole, and the kernel is not waited in",
          "[sendfile][choice]") {
    medium_file sent;
    if (!sent.can_be_asked_about()) return;

    on_ring([&](ring& loop) -> task<void> {
        const std::uint64_t enters = loop.counters().enters;
        send_report report = sent.try_to_send(loop);
        // A machine that is short of memory takes less than there is room for.
        for (int tries = 1; report.error == std::errc::operation_would_block && tries < 5;
             ++tries) {
            sent.ends = roomy();
            report = sent.try_to_send(loop);
        }

        CHECK_FALSE(report.error);
        CHECK(loop.counters().enters == enters);
        CHECK(report.bytes_sent == sent.message().size());
        CHECK(report.file_bytes == medium_bytes);
        CHECK(report.bytes_by(send_path::sendfile) == medium_bytes);
        CHECK(report.reason() == send_reason::resident);
        const std::string got = co_await receive_bytes(loop, sent.ends.peer, sent.message().size());
        CHECK(difference(got, sent.message()).empty());
    });
}

// The socket takes a little each time, down to a part of the header.
TEST_CASE("send_file sends the rest after a socket is full", "[sendfile][choice]") {
    medium_file sent;
    if (!sent.can_be_asked_about()) return;
    recording_kernel system;
    system.inject_faults = GENERATE(1U, 2U, 3U, 4U);
    CAPTURE(system.inject_faults);

    const auto sending = [](ring& loop, const medium_file& sent) -> task<void> {
        const send_report first = sent.try_to_send(loop);
        REQUIRE(first.error == std::errc::operation_would_block);
        REQUIRE(first.bytes_sent < sent.message().size());
        REQUIRE(first.file_bytes < medium_bytes);

        const std::size_t header_sent = first.bytes_sent - first.file_bytes;
        send_options rest = sent.options;
        rest.header = std::string_view(sent.header).substr(header_sent);
        const file_range range{first.file_bytes, medium_bytes - first.file_bytes};
        const send_report second =
            co_await send_file(loop, sent.ends.local, sent.file.native(), range, rest);

        CHECK_FALSE(second.error);
        CHECK(first.bytes_sent + second.bytes_sent == sent.message().size());
    };
    on_ring(
        [&](ring& loop) -> task<void> {
            task<void> send = sending(loop, sent);
            task<std::string> receive = receive_bytes(loop, sent.ends.peer, sent.message().size());
            auto [nothing, got] = co_await when_all(std::move(send), std::move(receive));
            CHECK(difference(got, sent.message()).empty());
        },
        system);
}

TEST_CASE("a full socket accepts no byte, and the report tells", "[sendfile][choice]") {
    medium_file sent;
    if (!sent.can_be_asked_about()) return;
    sent.ends = stream_pair::unix_sockets();  // TCP may make room a little later
    std::size_t filled = 0;
    fill(sent.ends.local, filled);

    on_ring([&](ring& loop) -> task<void> {
        const send_report report = sent.try_to_send(loop);

        CHECK(report.error == std::errc::operation_would_block);
        CHECK(report.bytes_sent == 0);
        const std::string got = co_await receive_bytes(loop, sent.ends.peer, filled);
        CHECK(got == std::string(filled, 'x'));
    });
}

TEST_CASE("a transfer that may have to wait sends no byte", "[sendfile][choice]") {
    medium_file sent;
    if (!sent.can_be_asked_about()) return;
    recording_kernel system;
    send_queue queue;
    file_range range = sent.all;

    SECTION("a small file") { range.count = 32 * 1024; }
    SECTION("a large file") { range.count = window + 1; }
    SECTION("a range to the end of the file") { range.count = file_range::to_end; }
    SECTION("no version") { sent.options.expected.reset(); }
    SECTION("a queue") { sent.options.queue = &queue; }
    SECTION("a rate") { sent.options.bytes_per_second_max = 1'000'000'000; }
    SECTION("a hint") { sent.options.hint = cache_hint::drop_after; }
    SECTION("a copy") { sent.options.force_copy = true; }
    SECTION("another path") { sent.options.path = send_path::splice; }
    SECTION("a blocking socket") { sent.options.keep_blocking = true; }
    SECTION("a file that is not in memory") { system.nonresident_end = window; }

    on_ring(
        [&](ring& loop) -> task<void> {
            const send_report report =
                try_send_file(loop, sent.ends.local, sent.file.native(), range, sent.options);
            CHECK(report.error == std::errc::operation_would_block);
            CHECK(report.bytes_sent == 0);
            char byte = 0;
            CHECK(::recv(sent.ends.peer.number(), &byte, 1, MSG_DONTWAIT) == -1);
            co_return;
        },
        system);
    CHECK(system.sendfile_calls.empty());
}

TEST_CASE("a file that is not the expected one is not sent whole at once", "[sendfile][choice]") {
    medium_file sent;
    if (!sent.can_be_asked_about()) return;
    sent.options.expected->modified_ns -= 1;

    on_ring([&](ring& loop) -> task<void> {
        const send_report report = sent.try_to_send(loop);

        CHECK(report.error == send_errc::file_changed);
        CHECK(report.file_bytes < medium_bytes);
        co_return;
    });
}

TEST_CASE("a file that has become shorter is left to send_file", "[sendfile][choice]") {
    medium_file sent;
    if (!sent.can_be_asked_about()) return;
    sent.file.truncate(medium_bytes - 1);

    on_ring([&](ring& loop) -> task<void> {
        const send_report first = sent.try_to_send(loop);
        CHECK(first.error == std::errc::operation_would_block);
        CHECK(first.bytes_sent == 0);

        const send_report second =
            co_await send_file(loop, sent.ends.local, sent.file.native(), sent.all, sent.options);
        CHECK(second.error == send_errc::file_shrank);
    });
}

TEST_CASE("a disconnected peer is an error of the call, and no signal", "[sendfile][choice]") {
    medium_file sent;
    if (!sent.can_be_asked_about()) return;
    sent.ends.reset_far();
    pollfd reset_received{sent.ends.local.number(), 0, 0};
    REQUIRE(::poll(&reset_received, 1, 60'000) == 1);

    on_ring([&](ring& loop) -> task<void> {
        send_report report = sent.try_to_send(loop);
        CHECK((report.error == std::errc::connection_reset ||
               report.error == std::errc::broken_pipe));
        report = sent.try_to_send(loop);
        CHECK(report.error == std::errc::broken_pipe);
        co_return;
    });
}

TEST_CASE("calls of try_send_file share the budget of an iteration with all transfers",
          "[sendfile][choice]") {
    medium_file sent;
    if (!sent.can_be_asked_about()) return;

    on_ring([&](ring& loop) -> task<void> {
        ring* const only = &loop;
        const std::uint64_t sent_bytes = send_until_refused(sent, std::span(&only, 1));
        CHECK(sent_bytes >= iteration_bytes);
        CHECK(sent_bytes < iteration_bytes + medium_bytes);

        co_await yield();
        const send_report report = sent.try_to_send(loop);
        CHECK(report.bytes_sent > 0);
    });
}

TEST_CASE("each ring of a thread has a budget of its own", "[sendfile][choice]") {
    medium_file sent;
    if (!sent.can_be_asked_about()) return;

    on_ring([&](ring& loop) -> task<void> {
        ring other;
        other.claim();
        const std::array<ring*, 2> both{&loop, &other};
        const std::uint64_t sent_bytes = send_until_refused(sent, both);
        CHECK(sent_bytes >= iteration_bytes);
        CHECK(sent_bytes < 2 * (iteration_bytes + medium_bytes));

        co_await yield();
        const send_report report = sent.try_to_send(loop);
        CHECK(report.bytes_sent > 0);
    });
}

TEST_CASE("a ring begins with a whole share, wherever it lies in memory", "[sendfile][choice]") {
    medium_file sent;
    if (!sent.can_be_asked_about()) return;
    std::optional<ring> place;
    for (int i = 0; i < 3; ++i) {
        place.emplace();
        place->claim();
        ring* const only = &*place;
        CHECK(send_until_refused(sent, std::span(&only, 1)) >= iteration_bytes);
        place.reset();
    }
}

// The code after a transfer that waited for budget runs in the scheduler of its ring.
TEST_CASE("a transfer may be followed by one on another ring", "[sendfile][choice]") {
    medium_file sent;
    if (!sent.can_be_asked_about()) return;

    on_ring([&](ring& loop) -> task<void> {
        ring* const only = &loop;
        send_until_refused(sent, std::span(&only, 1));
        const auto receive = [&]() -> task<void> {
            const std::size_t byte_count = sent.message().size();
            const std::string got = co_await receive_bytes(loop, sent.ends.peer, byte_count);
            CHECK(got.size() == byte_count);
        };
        cancel_scope& outer = co_await current_scope();
        task_scope receiving(loop, &outer);
        receiving.spawn(receive());
        const send_report waited =
            co_await send_file(loop, sent.ends.local, sent.file.native(), sent.all, sent.options);
        CHECK_FALSE(waited.error);

        std::vector<std::unique_ptr<ring>> others;
        for (int i = 0; i < 20; ++i) {
            others.push_back(std::make_unique<ring>());
            others.back()->claim();
            const stream_pair ends = roomy();
            const send_report report = try_send_file(*others.back(), ends.local, sent.file.native(),
                                                     sent.all, sent.options);
            CHECK(report.bytes_sent > 0);
        }
        co_await receiving.join();
    });
}
