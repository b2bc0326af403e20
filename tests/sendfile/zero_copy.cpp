// zero_copy.cpp: registered buffers: the bytes sent from them, their lifetime, and the fallback
// without them.
#include "tests/sendfile/transfer_test.hpp"
#include "tests/support/scripted_kernel.hpp"

#include <kevring/runtime/fixed_buffer_pool.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/detail/zero_copy_send.hpp>

#include <cerrno>
#include <stop_token>
#include <thread>

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

using namespace kevring;
using namespace kevring::testing;
using namespace std::chrono_literals;

namespace {

constexpr unsigned slot_count = fixed_buffer_pool_options().buffer_count_max;
constexpr std::size_t of_two_windows = 2 * 256 * 1024;

// All processes of a user share the limit on locked memory, and Linux before 6.2 does not report
// copies: such systems skip these tests. Memory that another process locks after this check fails
// them, so tests with the tag [locked_memory] do not run concurrently with others.
bool sends_from_registered_buffers(unsigned window_count) {
    bool all = false;
    on_ring([&](ring& loop) -> task<void> {
        fixed_buffer_pool_options options;
        options.buffer_count_max = window_count;
        fixed_buffer_pool pool(loop, options);
        std::vector<fixed_buffer> held;
        while (fixed_buffer one = pool.try_acquire()) held.push_back(std::move(one));
        all = held.size() == window_count;
        co_return;
    });
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(1000);
    const test_file file(bytes);
    const exchange got =
        send_over(ends, file.native(), whole, forced_to(send_path::zero_copy), bytes.size());
    if (all && got.report.registered_bytes == bytes.size()) return true;
    WARN("skipped: Linux 6.2 is needed, and a limit on locked memory above " << window_count
                                                                             << " windows");
    return false;
}

// Several transfers at once, each over a connection of its own.
struct parallel_transfers {
    parallel_transfers(std::size_t count, std::size_t byte_count)
        : bytes(pattern(byte_count)), file(bytes) {
        for (std::size_t i = 0; i < count; ++i) ends.push_back(stream_pair::tcp());
        got.resize(count);
    }
    task<void> send_one(ring& loop, std::size_t index) {
        got[index] = co_await send_and_receive(loop, ends[index], file.native(), whole,
                                               forced_to(send_path::zero_copy), bytes.size());
    }
    task<void> send_stopped_by(ring& loop, std::size_t index, std::stop_token stop) {
        const send_options options = forced_to(send_path::zero_copy);
        got[index].report = co_await with_stop(
            send_file(loop, ends[index].local, file.native(), whole, options), std::move(stop));
    }

    std::string bytes;
    test_file file;
    std::vector<stream_pair> ends;
    std::vector<exchange> got;
};

// Without its notices, a transfer sends the two halves of its window and waits.
task<void> until_all_wait(const scripted_kernel& system, std::size_t transfer_count) {
    while (system.submitted(IORING_OP_SEND_ZC) < 2 * transfer_count) {
        const auto slept = co_await sleep_for(1ms);
        CHECK(slept);  // else some do not wait: the deadline ends all of them
        if (!slept) co_return;
    }
}

task<void> until_all_are_returned(ring& loop) {
    while (loop.service<kevring::fixed_buffer_pool>().in_use_count() > 0 ||
           detail::window_buffer::in_use_count() > 0) {
        const auto slept = co_await sleep_for(1ms);
        CHECK(slept);
        if (!slept) co_return;
    }
}

// Gives up this thread's right to lock as much memory as it likes: rights are a thread's own.
void obey_limits() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct rights[2]{};
    ::syscall(SYS_capget, &header, rights);
    rights[0].effective &= ~(1U << CAP_IPC_LOCK);
    if (::syscall(SYS_capset, &header, rights) != 0) std::abort();
}

// The limit on locked memory, until the end of the test.
class locked_memory_limit {
public:
    explicit locked_memory_limit(rlim_t byte_count) {
        ::getrlimit(RLIMIT_MEMLOCK, &before_);
        rlimit less = before_;
        less.rlim_cur = std::min(byte_count, before_.rlim_max);
        ::setrlimit(RLIMIT_MEMLOCK, &less);
    }
    locked_memory_limit(const locked_memory_limit&) = delete;
    locked_memory_limit& operator=(const locked_memory_limit&) = delete;
    ~locked_memory_limit() { ::setrlimit(RLIMIT_MEMLOCK, &before_); }

private:
    rlimit before_{};
};

}  // namespace

TEST_CASE("zero copy reads and sends by registered buffers, and reports it",
          "[sendfile][choice][zero_copy][locked_memory]") {
    if (!sends_from_registered_buffers(1)) return;
    const std::size_t size = GENERATE(1U, 131072U, 131073U, 1000001U, 3145728U);
    INFO(size << " bytes");
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(size);
    const test_file file(bytes);
    scripted_kernel system;

    const exchange got = send_over(ends, file.native(), whole, forced_to(send_path::zero_copy),
                                   bytes.size(), system);

    CHECK(got.report.error == std::error_code{});
    CHECK(difference(got.received, bytes).empty());
    CHECK(got.report.registered_bytes == size);
    CHECK(system.submitted(IORING_OP_READ_FIXED) > 0);
    CHECK(system.submitted(IORING_OP_READ) == 0);
}

TEST_CASE("where no buffer is registered, zero copy sends from plain memory",
          "[sendfile][choice][zero_copy]") {
    const unsigned refused =
        GENERATE(unsigned{IORING_REGISTER_BUFFERS2}, unsigned{IORING_REGISTER_BUFFERS_UPDATE});
    const int error = GENERATE(ENOMEM, EINVAL, EBUSY);
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(1000001);
    const test_file file(bytes);
    scripted_kernel system;
    system.register_errors[refused] = error;

    const exchange got = send_over(ends, file.native(), whole, forced_to(send_path::zero_copy),
                                   bytes.size(), system);

    CHECK(got.report.error == std::error_code{});
    CHECK(difference(got.received, bytes).empty());
    CHECK(got.report.registered_bytes == 0);
    CHECK(system.submitted(IORING_OP_READ_FIXED) == 0);
    CHECK(detail::window_buffer::in_use_count() == 0);
}

TEST_CASE("a send that may lock no memory is left to another path",
          "[sendfile][choice][zero_copy]") {
    const int error = GENERATE(ENOMEM, ENOBUFS);
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(1000001);
    const test_file file(bytes);
    scripted_kernel system;
    system.fail(IORING_OP_SEND_ZC, error);

    const exchange got = send_over(ends, file.native(), whole, forced_to(send_path::zero_copy),
                                   bytes.size(), system);

    CHECK(got.report.error == std::error_code{});
    CHECK(difference(got.received, bytes).empty());
    CHECK(got.report.bytes_by(send_path::zero_copy) == 0);
}

// Linux counts the pages of plain memory as well, for each send.
TEST_CASE("a limit on locked memory costs no transfer", "[sendfile][choice][zero_copy]") {
    const rlim_t limit = GENERATE(0U, 500U * 1024U, 900U * 1024U);
    INFO("RLIMIT_MEMLOCK " << limit);
    parallel_transfers all(4, 3'000'000);
    std::error_code refusal;

    std::thread([&] {
        obey_limits();
        ring loop;  // first: it has to be within the limit, too
        const locked_memory_limit less(limit);
        const auto send_all = [&]() -> task<void> {
            cancel_scope& outer = co_await current_scope();
            task_scope transfers(loop, &outer);
            for (std::size_t i = 0; i < all.ends.size(); ++i)
                transfers.spawn(all.send_one(loop, i));
            co_await transfers.join();
        };
        run(loop, with_timeout(send_all(), 60s));
        refusal = loop.service<kevring::fixed_buffer_pool>().last_error();
    }).join();

    for (const exchange& each : all.got) {
        CHECK(each.report.error == std::error_code{});
        CHECK(difference(each.received, all.bytes).empty());
        if (limit == 0) CHECK(each.report.registered_bytes == 0);
    }
    CHECK(refusal == std::errc::not_enough_memory);
}

TEST_CASE("transfers beyond the registered buffers go from plain memory",
          "[sendfile][choice][zero_copy][locked_memory]") {
    constexpr std::size_t plain_count = 4;
    if (!sends_from_registered_buffers(slot_count + 2 * plain_count)) return;
    parallel_transfers all(slot_count + plain_count, 3 * of_two_windows);
    scripted_kernel system;
    system.hold_notices();

    on_ring(
        [&](ring& loop) -> task<void> {
            cancel_scope& outer = co_await current_scope();
            task_scope transfers(loop, &outer);
            for (std::size_t i = 0; i < all.ends.size(); ++i)
                transfers.spawn(all.send_one(loop, i));
            co_await until_all_wait(system, all.ends.size());
            CHECK(loop.service<kevring::fixed_buffer_pool>().in_use_count() == slot_count);
            CHECK(detail::window_buffer::in_use_count() == plain_count);

            system.release();
            co_await transfers.join();
            co_await until_all_are_returned(loop);
            CHECK(loop.service<kevring::fixed_buffer_pool>().buffer_count() == slot_count);
            CHECK(detail::window_buffer::in_use_count() == 0);
        },
        system);

    std::size_t from_plain_count = 0;
    for (const exchange& each : all.got) {
        CHECK(each.report.error == std::error_code{});
        CHECK(difference(each.received, all.bytes).empty());
        if (each.report.registered_bytes == 0)
            ++from_plain_count;
        else
            CHECK(each.report.registered_bytes == all.bytes.size());
    }
    CHECK(from_plain_count == plain_count);
}

// The kernel still sends from the memory of a destroyed ring: no other code may get that memory.
TEST_CASE("a ring ends without the notices of a peer that is silent, and its bytes stay right",
          "[sendfile][choice][zero_copy]") {
    const bool registered = GENERATE(true, false);
    INFO((registered ? "registered" : "plain"));
    stream_pair ends = narrowed(stream_pair::tcp());
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes);
    scripted_kernel system;
    if (!registered) system.register_errors[IORING_REGISTER_BUFFERS2] = ENOMEM;
    send_report report;
    const auto send = [&](ring& loop) -> task<void> {
        const send_options options = forced_to(send_path::zero_copy);
        report = co_await with_timeout(send_file(loop, ends.local, file.native(), whole, options),
                                       100ms);
    };

    parallel_transfers others(2, 700'000);  // they would write into memory that has been let go
    const std::int64_t begin_ns = system.steady_ns();
    std::thread([&] {  // of its own: a window that is kept is counted as out, for good
        on_ring(send, system);
        for (std::size_t i = 0; i < others.ends.size(); ++i)
            on_ring([&](ring& loop) { return others.send_one(loop, i); });
    })
        .join();
    CHECK(system.steady_ns() - begin_ns < 30'000'000'000);
    ::shutdown(ends.local.number(), SHUT_WR);
    std::string received;
    on_ring([&](ring& loop) -> task<void> {
        received = co_await receive_bytes(loop, ends.peer, bytes.size());
    });

    CHECK(report.error == std::errc::timed_out);
    CHECK(received.size() == report.bytes_sent);
    CHECK(difference(received, std::string_view(bytes).substr(0, received.size())).empty());
}

// A stop ends the transfer, and hurries no peer: the network may still read the memory.
TEST_CASE("a registered buffer goes to no other transfer before its notices have come",
          "[sendfile][choice][zero_copy][locked_memory]") {
    if (!sends_from_registered_buffers(slot_count + 2)) return;
    parallel_transfers stopped(slot_count, 3 * of_two_windows);
    parallel_transfers others(2, 100'000);  // of one send each, whose notice they do not wait for
    scripted_kernel system;
    system.hold_notices();

    on_ring(
        [&](ring& loop) -> task<void> {
            std::stop_source stop;
            cancel_scope& outer = co_await current_scope();
            task_scope transfers(loop, &outer);
            for (std::size_t i = 0; i < slot_count; ++i)
                transfers.spawn(stopped.send_stopped_by(loop, i, stop.get_token()));
            co_await until_all_wait(system, slot_count);
            stop.request_stop();
            co_await transfers.join();
            CHECK(loop.service<kevring::fixed_buffer_pool>().in_use_count() == slot_count);

            co_await others.send_one(loop, 0);
            CHECK(loop.service<kevring::fixed_buffer_pool>().in_use_count() == slot_count);

            system.release();
            for (stream_pair& each : stopped.ends) each.close();
            co_await until_all_are_returned(loop);
            co_await others.send_one(loop, 1);
        },
        system);

    for (const exchange& each : stopped.got)
        CHECK(each.report.error == std::errc::operation_canceled);
    for (const exchange& each : others.got) {
        CHECK(each.report.error == std::error_code{});
        CHECK(difference(each.received, others.bytes).empty());
    }
    CHECK(others.got[0].report.registered_bytes == 0);
    CHECK(others.got[1].report.registered_bytes == others.bytes.size());
    CHECK(detail::window_buffer::in_use_count() == 0);
}

// Each send is charged to the socket by its bytes, wherever they are in the table: a socket with
// room for three sends, as Debian's limit on SO_SNDBUF allows, takes two for a peer that reads
// nothing.
TEST_CASE("a zero-copy send is charged for its own bytes, not for those before it",
          "[sendfile][choice][zero_copy][locked_memory]") {
    if (!sends_from_registered_buffers(slot_count)) return;
    constexpr std::size_t send_bytes = 128 * 1024;
    stream_pair ends = stream_pair::tcp();
    const int few = 16 * 1024;
    CHECK(::setsockopt(ends.local.number(), SOL_SOCKET, SO_SNDBUF, &few, sizeof few) == 0);
    CHECK(::setsockopt(ends.peer.number(), SOL_SOCKET, SO_RCVBUF, &few, sizeof few) == 0);
    std::size_t charged_bytes = 0;

    on_ring([&](ring& loop) -> task<void> {
        std::vector<std::shared_ptr<detail::zero_copy_window>> windows;
        while (loop.service<kevring::fixed_buffer_pool>().in_use_count() < slot_count)
            windows.push_back(std::make_shared<detail::zero_copy_window>(loop));
        // Fills what the peer takes, so that the kernel's queue holds what follows.
        const std::string filling = pattern(1 << 20);
        std::size_t queued = 0;
        while (::send(ends.local.number(), filling.data(), 4096, MSG_DONTWAIT) > 0) queued += 4096;
        CHECK(queued > 0);
        const auto queue_bytes = [&] {
            std::array<std::uint32_t, 9> memory{};  // SK_MEMINFO_VARS
            socklen_t size = sizeof memory;
            CHECK(::getsockopt(ends.local.number(), SOL_SOCKET, SO_MEMINFO, memory.data(), &size) ==
                  0);
            return memory[5];  // SK_MEMINFO_WMEM_QUEUED
        };
        const int room = 4 << 20;
        CHECK(::setsockopt(ends.local.number(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0);
        const std::size_t before = queue_bytes();
        for (std::size_t i = windows.size() - 2; i < windows.size(); ++i) {
            const std::span<std::byte> bytes = windows[i]->bytes().last(send_bytes);
            detail::zero_copy_handle send(
                new detail::zero_copy_send(loop, ends.local, windows[i], bytes, false));
            const auto sent = co_await send->sent();
            if (!sent) FAIL(sent.error().message());
            CHECK(*sent == send_bytes);
        }
        charged_bytes = queue_bytes() - before;
        ends.close();
        windows.clear();
        co_await until_all_are_returned(loop);
    });

    CHECK(charged_bytes >= 2 * send_bytes);
    CHECK(charged_bytes < 4 * send_bytes);
}
