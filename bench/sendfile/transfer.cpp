// transfer.cpp: CPU time that send_file() adds to its system calls.
//
// Baseline (`direct_calls`): send(2) of the header with MSG_MORE and sendfile(2) of the file on a
// non-blocking socket, on the same connection, in the same process. A thread of the peer discards
// the bytes. Quote the ratio of the CPU times of a row and of `direct_calls` at the same size and
// congestion control. The time of the peer is in neither, except for the part that loopback charges
// to the sender.
#include "bench/sendfile/congestion.hpp"
#include "bench/sendfile/drain.hpp"
#include "bench/sendfile/scratch_file.hpp"

#include <kevring/runtime/run.hpp>
#include <kevring/sendfile/send_file.hpp>

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace kevring;

namespace {

constexpr std::string_view header =
    "HTTP/1.1 200 OK\r\nServer: none\r\nContent-Type: application/octet-stream\r\n"
    "Content-Length: 1048576\r\nLast-Modified: Sat, 21 Nov 2026 00:00:00 GMT\r\n\r\n";

void wait_writable(fd_ref socket) {
    pollfd ready{socket.number(), POLLOUT, 0};
    ::poll(&ready, 1, -1);
}

// The congestion control of a row; null, and the row skipped, where the kernel does not have it.
const char* congestion_control(benchmark::State& state) {
    const char* const name = congestion_controls.at(static_cast<std::size_t>(state.range(1)));
    if (is_available(name)) return name;
    state.SkipWithError("this congestion control is not available");
    return nullptr;
}

void direct_calls(benchmark::State& state) {
    const auto byte_count = static_cast<std::size_t>(state.range(0));
    const char* const control = congestion_control(state);
    if (control == nullptr) return;
    const drain to(control);
    const scratch_file file(byte_count);
    for (auto _ : state) {
        std::string_view rest = header;
        while (!rest.empty()) {
            const ssize_t sent =
                ::send(to.local().number(), rest.data(), rest.size(), MSG_MORE | MSG_NOSIGNAL);
            if (sent < 0)
                wait_writable(to.local());
            else
                rest.remove_prefix(static_cast<std::size_t>(sent));
        }
        off_t offset = 0;
        while (offset < static_cast<off_t>(byte_count)) {
            const ssize_t sent = ::sendfile(to.local().number(), file.native().number(), &offset,
                                            byte_count - static_cast<std::size_t>(offset));
            if (sent <= 0) wait_writable(to.local());
        }
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
    state.SetLabel(control);
}

task<void> send_all(benchmark::State& state, ring& loop, const drain& to, const scratch_file& file,
                    send_options options) {
    file_range range;
    range.count = static_cast<std::uint64_t>(state.range(0));
    send_report last;
    for (auto _ : state) {
        last = co_await send_file(loop, to.local(), file.native(), range, options);
        if (last.error) state.SkipWithError(last.error.message().c_str());
    }
    state.SetLabel(std::string(congestion_controls.at(static_cast<std::size_t>(state.range(1)))) +
                   ", " + std::string(name_of(last.path())));
}

void library(benchmark::State& state, std::optional<send_path> path) {
    const char* const control = congestion_control(state);
    if (control == nullptr) return;
    const drain to(control);
    const scratch_file file(static_cast<std::size_t>(state.range(0)));
    // As a server with a cache of open files: the range is known, which version it is, and what was
    // seen of it a moment ago.
    struct stat status{};
    if (::fstat(file.native().number(), &status) != 0) return state.SkipWithError("fstat");
    file_state_cache cache;
    send_options options;
    options.header = header;
    options.path = path;
    options.expected = file_version::from_stat(status);
    options.state_cache = &cache;
    options.is_nonblocking = true;
    ring loop;
    const std::uint64_t enters = loop.counters().enters;
    run(loop, send_all(state, loop, to, file, options));
    state.SetBytesProcessed(state.iterations() * state.range(0));
    state.counters["enters"] = benchmark::Counter(
        static_cast<double>(loop.counters().enters - enters), benchmark::Counter::kAvgIterations);
}

void sizes(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgNames({"bytes", "control"})->Unit(benchmark::kMicrosecond);
    benchmark->ArgsProduct(
        {{1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 16 << 20}, {0, 1, 2}});
}

}  // namespace

BENCHMARK(direct_calls)->Apply(sizes);
BENCHMARK_CAPTURE(library, as_it_chooses, std::nullopt)->Apply(sizes);
BENCHMARK_CAPTURE(library, send, send_path::send)->Apply(sizes);
BENCHMARK_CAPTURE(library, sendfile, send_path::sendfile)->Apply(sizes);
BENCHMARK_CAPTURE(library, read_send, send_path::read_send)->Apply(sizes);
BENCHMARK_CAPTURE(library, splice, send_path::splice)->Apply(sizes);
BENCHMARK_CAPTURE(library, zero_copy, send_path::zero_copy)->Apply(sizes);

BENCHMARK_MAIN();
