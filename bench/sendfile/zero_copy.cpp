// zero_copy.cpp: CPU time that registered buffers save a transfer without a copy.
//
//   bench_sendfile_zero_copy [--quick]
//
// One hot file goes over a loopback connection again and again: by zero_copy with registered
// buffers, and by zero_copy where the ring's kernel registers none: the baseline. For scale,
// read_send does the same with copies. The three take turns, in one process; a thread on the other
// side throws away what arrives. Printed, for each congestion control: the median of the CPU time
// of the loop's thread for each GiB, its quartiles, and the median of the ratios to the baseline of
// the same round.
//
// Loopback copies what it is asked not to copy, so that this is the price of zero copy with its
// gain taken away: the difference between the two rows holds on every network, the ratio is
// smaller here than where nothing is copied.
#include "bench/sendfile/congestion.hpp"
#include "bench/sendfile/drain.hpp"
#include "bench/sendfile/scratch_file.hpp"

#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/kernel.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/sendfile/send_file.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include <time.h>

using namespace kevring;

namespace {

constexpr std::size_t file_bytes = 16 << 20;
constexpr double gibibyte = 1024.0 * 1024 * 1024;

class kernel_without_registration final : public kernel {
public:
    int ring_register(io_uring& ring, unsigned opcode, void* argument,
                      unsigned count) noexcept override {
        if (opcode == IORING_REGISTER_BUFFERS2) return -ENOMEM;
        return kernel::ring_register(ring, opcode, argument, count);
    }
};

std::int64_t thread_cpu_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

struct contender {
    const char* name;
    send_path path;
    bool registered;
    std::vector<double> ms_per_gib;
    std::vector<double> ratios;
};

double quantile(std::vector<double>& values, double part) {
    std::sort(values.begin(), values.end());
    return values[static_cast<std::size_t>(part * static_cast<double>(values.size() - 1))];
}

task<void> send_often(ring& loop, fd_ref socket, fd_ref file, const contender& how, int times) {
    for (int i = 0; i < times; ++i) {
        send_options options;
        options.path = how.path;
        const file_range range{0, file_bytes};
        const send_report report = co_await send_file(loop, socket, file, range, options);
        const std::uint64_t from_registered = how.registered ? file_bytes : 0;
        if (report.error) {
            std::fprintf(stderr, "%s: %s\n", how.name, report.error.message().c_str());
            std::exit(1);
        }
        if (report.path() != how.path || report.registered_bytes != from_registered) {
            std::fprintf(stderr, "%s is not possible here: Linux 6.2, and RLIMIT_MEMLOCK\n",
                         how.name);
            std::exit(77);  // to meson: skipped
        }
    }
}

void measure(const char* control, const scratch_file& file, int round_count, int times) {
    kernel_without_registration unregistered;
    std::array contenders{
        contender{"plain", send_path::zero_copy, false, {}, {}},
        contender{"registered", send_path::zero_copy, true, {}, {}},
        contender{"read_send", send_path::read_send, false, {}, {}},
    };
    for (int round = 0; round < round_count; ++round) {
        for (contender& each : contenders) {
            const drain to(control);
            ring loop({}, each.registered ? kernel::real() : unregistered);
            run(loop,
                send_often(loop, to.local(), file.native(), each, 1));  // registers, and warms up
            const std::int64_t begin_ns = thread_cpu_ns();
            run(loop, send_often(loop, to.local(), file.native(), each, times));
            each.ms_per_gib.push_back(static_cast<double>(thread_cpu_ns() - begin_ns) / 1e6 /
                                      (static_cast<double>(times) * file_bytes / gibibyte));
            each.ratios.push_back(each.ms_per_gib.back() / contenders[0].ms_per_gib.back());
        }
    }
    for (contender& each : contenders)
        std::printf("%-6s%-12s%8.1f ms/GiB  (%.1f to %.1f)   %.3f\n", control, each.name,
                    quantile(each.ms_per_gib, 0.5), quantile(each.ms_per_gib, 0.25),
                    quantile(each.ms_per_gib, 0.75), quantile(each.ratios, 0.5));
}

}  // namespace

int main(int argc, char* argv[]) {
    const bool quick = argc > 1 && std::string_view(argv[1]) == "--quick";
    const scratch_file file(file_bytes);
    for (const char* control : congestion_controls)
        if (is_available(control)) measure(control, file, quick ? 1 : 31, quick ? 1 : 8);
}
