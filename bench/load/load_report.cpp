#include "bench/load/load_report.hpp"

#include <algorithm>
#include <cstdio>

namespace kevring::bench {

namespace {

double microseconds(std::chrono::nanoseconds time) {
    return static_cast<double>(time.count()) / 1000;
}

const char* name_of(load_mode mode) {
    switch (mode) {
        case load_mode::keep_alive: return "keep-alive";
        case load_mode::close: return "close";
        case load_mode::abort: return "abort";
        case load_mode::echo: return "echo";
        case load_mode::sink: return "sink";
        case load_mode::source: return "source";
    }
    return "";
}

}  // namespace

void print_report(const load_options& options, const load_report& report) {
    const std::uint64_t responses = report.end.responses - report.begin.responses;
    const std::uint64_t aborts = report.end.aborts - report.begin.aborts;
    const auto each = [&](std::chrono::nanoseconds time) {
        return microseconds(time) /
               static_cast<double>(std::max<std::uint64_t>(responses + aborts, 1));
    };
    std::printf("%s, %u connections, pipeline %u, %u threads, %.2f s\n", name_of(options.mode),
                options.connections, options.pipeline, options.threads, report.seconds());
    std::printf("responses    %llu, %.0f/s, %.1f MB/s\n",
                static_cast<unsigned long long>(responses), report.each_second(responses),
                report.each_second(report.end.bytes - report.begin.bytes) / 1e6);
    if (options.mode == load_mode::abort)
        std::printf("aborted      %llu, %.0f/s\n", static_cast<unsigned long long>(aborts),
                    report.each_second(aborts));
    std::printf(
        "latency us   p50 %.0f  p90 %.0f  p99 %.0f  p99.9 %.0f  max %.0f  mean %.0f\n",
        microseconds(report.latency.at_share(0.5)), microseconds(report.latency.at_share(0.9)),
        microseconds(report.latency.at_share(0.99)), microseconds(report.latency.at_share(0.999)),
        microseconds(report.latency.max()), microseconds(report.latency.mean()));
    if (!options.server_pids.empty())
        std::printf(
            "server CPU   %.3f us each, busy %.2f\n",
            each(report.end.server_cpu - report.begin.server_cpu),
            microseconds(report.end.server_cpu - report.begin.server_cpu) / 1e6 / report.seconds());
    std::printf("load CPU     %.3f us each, busy %.2f, %llu enters\n",
                each(report.end.own_cpu - report.begin.own_cpu),
                microseconds(report.end.own_cpu - report.begin.own_cpu) / 1e6 / report.seconds(),
                static_cast<unsigned long long>(report.enters));
    if (report.idle_count > 0)
        std::printf("idle         %zu of %zu held to the end\n", report.idle_held,
                    report.idle_count);
    std::printf(
        "errors       %llu (connect %llu, send %llu, receive %llu, early %llu, "
        "surplus %llu, timeout %llu); %llu closed between responses\n",
        static_cast<unsigned long long>(report.errors.total()),
        static_cast<unsigned long long>(report.errors.connect),
        static_cast<unsigned long long>(report.errors.send),
        static_cast<unsigned long long>(report.errors.receive),
        static_cast<unsigned long long>(report.errors.early),
        static_cast<unsigned long long>(report.errors.surplus),
        static_cast<unsigned long long>(report.errors.timeout),
        static_cast<unsigned long long>(report.reopened));
}

bool write_json(const load_options& options, const load_report& report) {
    std::FILE* file = options.json == "-" ? stdout : std::fopen(options.json.c_str(), "w");
    if (file == nullptr) return false;
    const std::uint64_t responses = report.end.responses - report.begin.responses;
    std::fprintf(file,
                 "{\"mode\": \"%s\", \"connections\": %u, \"pipeline\": %u, \"threads\": %u,\n",
                 name_of(options.mode), options.connections, options.pipeline, options.threads);
    std::fprintf(file, " \"seconds\": %.6f, \"responses\": %llu, \"all_responses\": %llu,\n",
                 report.seconds(), static_cast<unsigned long long>(responses),
                 static_cast<unsigned long long>(report.all_responses));
    std::fprintf(file,
                 " \"requests_per_second\": %.1f, \"bytes\": %llu, \"aborts\": %llu,\n"
                 " \"queued_bytes\": %lld,\n",
                 report.each_second(responses),
                 static_cast<unsigned long long>(report.end.bytes - report.begin.bytes),
                 static_cast<unsigned long long>(report.end.aborts - report.begin.aborts),
                 static_cast<long long>(report.end.queued_bytes - report.begin.queued_bytes));
    std::fprintf(
        file,
        " \"latency_us\": {\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p999\": %.1f, "
        "\"max\": %.1f, \"mean\": %.1f},\n",
        microseconds(report.latency.at_share(0.5)), microseconds(report.latency.at_share(0.9)),
        microseconds(report.latency.at_share(0.99)), microseconds(report.latency.at_share(0.999)),
        microseconds(report.latency.max()), microseconds(report.latency.mean()));
    std::fprintf(file, " \"server_cpu_seconds\": %.9f, \"load_cpu_seconds\": %.9f,\n",
                 microseconds(report.end.server_cpu - report.begin.server_cpu) / 1e6,
                 microseconds(report.end.own_cpu - report.begin.own_cpu) / 1e6);
    std::fprintf(file, " \"enters\": %llu, \"idle\": {\"count\": %zu, \"held\": %zu},\n",
                 static_cast<unsigned long long>(report.enters), report.idle_count,
                 report.idle_held);
    std::fprintf(file,
                 " \"errors\": {\"total\": %llu, \"connect\": %llu, \"send\": %llu, "
                 "\"receive\": %llu, \"early\": %llu, \"surplus\": %llu, \"timeout\": %llu},\n"
                 " \"closed_between_responses\": %llu, \"opened_connections\": %llu}\n",
                 static_cast<unsigned long long>(report.errors.total()),
                 static_cast<unsigned long long>(report.errors.connect),
                 static_cast<unsigned long long>(report.errors.send),
                 static_cast<unsigned long long>(report.errors.receive),
                 static_cast<unsigned long long>(report.errors.early),
                 static_cast<unsigned long long>(report.errors.surplus),
                 static_cast<unsigned long long>(report.errors.timeout),
                 static_cast<unsigned long long>(report.reopened),
                 static_cast<unsigned long long>(report.opened));
    const bool written = std::ferror(file) == 0;
    return (file == stdout || std::fclose(file) == 0) && written;
}

}  // namespace kevring::bench
