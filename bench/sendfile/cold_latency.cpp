// cold_latency.cpp: latency of a small request while the loop sends files from the disk.
//
//   bench_sendfile_cold_latency [--quick]
//
// One loop serves 16 clients, each of which is sent one cold file after the other, and a probe: a
// client that sends a byte and waits for the answer. Baseline: the same loop with sendfile(2) on
// non-blocking sockets, which is asynchronous as far as the socket goes, and waits for the disk in
// the call. Printed for each: the throughput, the CPU time of the process with the kernel's workers
// and the clients, the probe's times, and how many of the loop's direct calls went to sleep, and
// for how long at most: calls that had to wait for something, not those that lost the CPU.
#include "bench/sendfile/congestion.hpp"
#include "bench/sendfile/scratch_file.hpp"
#include "tests/support/loopback_listener.hpp"

#include <kevring/runtime/kernel.hpp>
#include <kevring/runtime/operations/poll.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/operations/send.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/sendfile/send_file.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

using namespace kevring;

namespace {

constexpr std::size_t client_count = 16;

[[noreturn]] void fail(const char* what) {
    std::perror(what);
    std::exit(1);
}

// Watches the calls that the loop itself could wait in.
class timing_kernel : public kernel {
public:
    std::int64_t longest_sleep_ns = 0;
    std::size_t sleep_count = 0;

    ssize_t send_file(int socket, int file, off_t* offset, std::size_t count) noexcept override {
        return timed([&] { return kernel::send_file(socket, file, offset, count); });
    }
    ssize_t read_nowait(int file, const iovec* parts, int count, off_t offset) noexcept override {
        return timed([&] { return kernel::read_nowait(file, parts, count, offset); });
    }
    ssize_t resident_pages(int file, std::uint64_t offset, std::uint64_t count) noexcept override {
        return timed([&] { return kernel::resident_pages(file, offset, count); });
    }
    ssize_t splice_nowait(int source, off_t* offset, int target, std::size_t count,
                          unsigned flags) noexcept override {
        return timed([&] { return kernel::splice_nowait(source, offset, target, count, flags); });
    }

private:
    template <class Call>
    ssize_t timed(Call call) noexcept {
        rusage before{};
        rusage after{};
        ::getrusage(RUSAGE_THREAD, &before);
        const std::int64_t begin = steady_ns();
        const ssize_t answer = call();
        const std::int64_t took_ns = steady_ns() - begin;
        ::getrusage(RUSAGE_THREAD, &after);
        if (after.ru_nvcsw != before.ru_nvcsw) {
            ++sleep_count;
            longest_sleep_ns = std::max(longest_sleep_ns, took_ns);
        }
        return answer;
    }
};

// Files that share nothing, out of the page cache.
class cold_files {
public:
    cold_files(std::size_t file_count, std::size_t byte_count) : byte_count_(byte_count) {
        for (std::size_t i = 0; i < file_count; ++i) {
            files_.emplace_back(byte_count);
            if (::fsync(files_.back().native().number()) != 0) fail("fsync");
        }
    }
    void make_cold() const {
        for (const scratch_file& file : files_)
            ::posix_fadvise(file.native().number(), 0, 0, POSIX_FADV_DONTNEED);
    }
    std::size_t size() const { return files_.size(); }
    fd_ref operator[](std::size_t index) const { return files_[index].native(); }
    std::size_t byte_count() const { return byte_count_; }

private:
    std::vector<scratch_file> files_;
    std::size_t byte_count_;
};

enum class way { inline_sendfile, chosen, read_send, splice };

task<bool> send_inline(ring& loop, fd_ref socket, fd_ref file, std::size_t byte_count) {
    off_t offset = 0;
    while (offset < static_cast<off_t>(byte_count)) {
        const ssize_t sent = loop.system().send_file(socket.number(), file.number(), &offset,
                                                     byte_count - static_cast<std::size_t>(offset));
        if (sent > 0) continue;
        if (sent != -EAGAIN) co_return false;
        poll_operation poll(loop, socket, POLLOUT);
        const auto ready = co_await poll;
        if (!ready) co_return false;
    }
    co_return true;
}

task<void> serve_files(ring& loop, fd_ref socket, const cold_files& files, std::size_t& next,
                       way how) {
    while (next < files.size()) {
        const fd_ref file = files[next++];
        bool sent = false;
        if (how == way::inline_sendfile) {
            sent = co_await send_inline(loop, socket, file, files.byte_count());
        } else {
            send_options options;
            if (how == way::read_send) options.path = send_path::read_send;
            if (how == way::splice) options.path = send_path::splice;
            const file_range range{0, files.byte_count()};
            const send_report report = co_await send_file(loop, socket, file, range, options);
            sent = !report.error;
        }
        if (!sent) fail("send");
    }
}

task<void> answer_probe(ring& loop, fd_ref socket) {
    std::array<std::byte, 1> byte{};
    for (;;) {
        receive_operation receive(loop, socket, byte);
        const auto got = co_await receive;
        if (!got || *got == 0) break;
        send_operation send(loop, socket, byte);
        const auto sent = co_await send;
        if (!sent) break;
    }
}

task<void> serve(ring& loop, const std::vector<loopback_connection>& clients,
                 const loopback_connection& probe, const cold_files& files, way how,
                 std::atomic<bool>& over) {
    task_scope probing(loop);
    probing.spawn(answer_probe(loop, probe.accepted));
    task_scope sending(loop);
    std::size_t next = 0;
    for (const loopback_connection& client : clients)
        sending.spawn(serve_files(loop, client.accepted, files, next, how));
    co_await sending.join();
    over = true;
    co_await probing.join();
}

struct measurements {
    double seconds = 0;
    std::vector<std::int64_t> probe_ns;
    std::int64_t cpu_ns = 0;
    std::size_t sleep_count = 0;
    std::int64_t longest_sleep_ns = 0;
};

std::int64_t cpu_time_ns() {
    timespec used{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return std::int64_t{used.tv_sec} * 1'000'000'000 + used.tv_nsec;
}

measurements measure(const cold_files& files, way how, const char* control) {
    files.make_cold();
    const loopback_listener accepting(control);
    std::vector<loopback_connection> clients;
    for (std::size_t i = 0; i < client_count; ++i)
        clients.push_back(accepting.connect(SOCK_NONBLOCK));
    const loopback_connection probe = accepting.connect(SOCK_NONBLOCK);
    measurements out;
    std::atomic<bool> over{false};
    std::thread reader([&] {
        std::vector<pollfd> waits;
        for (const loopback_connection& client : clients)
            waits.push_back({client.dialled.number(), POLLIN, 0});
        while (!over) {
            if (::poll(waits.data(), waits.size(), 10) <= 0) continue;
            for (const pollfd& one : waits)
                if (one.revents != 0) ::recv(one.fd, nullptr, 1 << 20, MSG_TRUNC | MSG_DONTWAIT);
        }
    });
    std::thread prober([&] {
        char byte = 'p';
        while (!over) {
            const auto begin = std::chrono::steady_clock::now();
            if (::send(probe.dialled.number(), &byte, 1, MSG_NOSIGNAL) != 1 ||
                ::recv(probe.dialled.number(), &byte, 1, 0) != 1)
                break;
            out.probe_ns.push_back((std::chrono::steady_clock::now() - begin).count());
        }
        ::shutdown(probe.dialled.number(), SHUT_WR);
    });
    timing_kernel system;
    const std::int64_t cpu_begin_ns = cpu_time_ns();
    const auto begin = std::chrono::steady_clock::now();
    {
        ring loop({}, system);
        run(loop, serve(loop, clients, probe, files, how, over));
    }
    out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    reader.join();
    prober.join();
    out.cpu_ns = cpu_time_ns() - cpu_begin_ns;
    out.sleep_count = system.sleep_count;
    out.longest_sleep_ns = system.longest_sleep_ns;
    std::sort(out.probe_ns.begin(), out.probe_ns.end());
    return out;
}

double microseconds_at(const measurements& result, double part) {
    if (result.probe_ns.empty()) return 0;
    const auto index =
        static_cast<std::size_t>(part * static_cast<double>(result.probe_ns.size() - 1));
    return static_cast<double>(result.probe_ns[index]) / 1e3;
}

void report(const char* control, const char* name, const cold_files& files,
            const measurements& result) {
    const double mebibytes =
        static_cast<double>(files.size() * files.byte_count()) / (1024.0 * 1024.0);
    std::printf(
        "%-6s%-16s%6zu KiB%6.0f MiB/s%6.0f us/MiB   probe p50%8.0f  p99%8.0f  max%8.0f us   "
        "%5zu calls slept, %6.0f us at most\n",
        control, name, files.byte_count() / 1024, mebibytes / result.seconds,
        static_cast<double>(result.cpu_ns) / 1e3 / mebibytes, microseconds_at(result, 0.5),
        microseconds_at(result, 0.99), microseconds_at(result, 1.0), result.sleep_count,
        static_cast<double>(result.longest_sleep_ns) / 1e3);
}

}  // namespace

int main(int argc, char* argv[]) {
    const bool quick = argc > 1 && std::string_view(argv[1]) == "--quick";
    struct load {
        std::size_t file_count;
        std::size_t byte_count;
    };
    const std::vector<load> loads = quick ? std::vector<load>{{16, 1 << 20}}
                                          : std::vector<load>{{256, 1 << 20}, {24, 16 << 20}};
    const int round_count = quick ? 1 : 3;
    for (const load& each : loads) {
        const cold_files files(each.file_count, each.byte_count);
        for (int round = 0; round < round_count; ++round) {
            for (const char* control : congestion_controls) {
                if (!is_available(control)) continue;
                const auto run = [&](const char* name, way how) {
                    report(control, name, files, measure(files, how, control));
                };
                run("inline sendfile", way::inline_sendfile);
                run("send_file", way::chosen);
                run("  read_send", way::read_send);
                run("  splice", way::splice);
            }
        }
    }
}
