// bench/load/main.cpp: kevring-load, a load for HTTP and echo servers that is cheaper than they
// are.
//
// It learns the length of each response, runs the workers for the time or the count asked for, and
// reports what came back, how long it took, and what CPU time it cost the server.
#include "bench/load/load_options.hpp"
#include "bench/load/load_worker.hpp"
#include "bench/load/probe.hpp"

#include <CLI/CLI.hpp>

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <memory>
#include <optional>
#include <semaphore>
#include <stdexcept>
#include <thread>

namespace {

using namespace kevring::bench;
using namespace std::chrono_literals;

volatile std::sig_atomic_t interrupted = 0;

struct program_options {
    load_options load;
    std::string json;
    bool json_only = false;
};

std::uint16_t to_port(const std::string& text) {
    const unsigned long value = std::stoul(text);
    if (value < 1 || value > 65535) throw CLI::ValidationError("--target", "wants HOST:PORT");
    return static_cast<std::uint16_t>(value);
}

program_options parse(int argc, char** argv) {
    program_options parsed;
    load_options& load = parsed.load;
    std::string target = "127.0.0.1:8080";
    std::string path_file;
    unsigned source_count = 0;
    bool close = false;
    bool abort = false;
    bool echo = false;
    double duration = 10;
    double warm_up = 0;
    double timeout = 5;

    CLI::App app{
        "A load for HTTP and echo servers: asks, counts the bytes that come back, discards them.\n"
        "Each path is asked for once beforehand, to learn the length of its response."};
    app.add_option("--target", target, "HOST:PORT, an IPv4 address")->capture_default_str();
    app.add_option("--path", load.paths, "what to ask for; may be given several times");
    app.add_option("--paths", path_file, "a file with one path a line")->check(CLI::ExistingFile);
    app.add_flag("--random", load.random_order, "paths in random order instead of in turn");
    app.add_flag("--learn-by-head", load.learn_by_head,
                 "learn the lengths by HEAD, which leaves the server's files unread");
    app.add_option("--header", load.headers, "a further header line of each request");
    app.add_flag("--http10", load.http10, "HTTP/1.0 requests");
    auto* close_flag = app.add_flag("--close", close, "a connection for each request");
    auto* abort_flag =
        app.add_flag("--abort", abort, "a connection for each request, reset within the response");
    auto* echo_flag = app.add_flag("--echo", echo, "no HTTP: messages that come back");
    close_flag->excludes(abort_flag);
    echo_flag->excludes(close_flag)->excludes(abort_flag);
    app.add_option("--message-bytes", load.message_bytes, "of an echo message")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    app.add_option("--connections", load.connections, "of all threads together")
        ->check(CLI::Range(1, 100000))
        ->capture_default_str();
    app.add_option("--threads", load.threads)->check(CLI::Range(1, 64))->capture_default_str();
    app.add_option("--cpu", load.cpus, "CPUs to run on, one for each thread in turn")
        ->check(CLI::Range(0, CPU_SETSIZE - 1));
    app.add_option("--pipeline", load.pipeline, "requests on the way on a connection")
        ->check(CLI::Range(1U, load_worker::pipeline_max))
        ->capture_default_str();
    app.add_option("--idle", load.idle, "further connections that ask once and are then held")
        ->check(CLI::Range(0, 1000000));
    app.add_option("--rate", load.rate, "requests a second; default: as fast as can be");
    app.add_option("--source", load.sources, "an address to connect from; several: in turn");
    app.add_option("--source-count", source_count, "connect from 127.0.1.1, .2, ... in turn")
        ->check(CLI::Range(1, 254));
    app.add_option("--duration", duration, "seconds")
        ->check(CLI::Range(0.01, 86400.0))
        ->capture_default_str();
    app.add_option("--warm-up", warm_up, "seconds before the measured duration")
        ->check(CLI::Range(0.0, 3600.0));
    app.add_option("--requests", load.requests, "end after this many, if the duration is not over");
    app.add_option("--timeout", timeout, "seconds without progress that make an error")
        ->check(CLI::Range(0.1, 600.0))
        ->capture_default_str();
    app.add_option("--pid", load.server_pids, "a server's process, to report its CPU time");
    app.add_option("--json", parsed.json, "write the report as JSON to this file, or - alone");
    try {
        app.parse(argc, argv);
        const auto colon = target.rfind(':');
        if (colon == target.npos) throw CLI::ValidationError("--target", "wants HOST:PORT");
        load.host = target.substr(0, colon);
        load.port = to_port(target.substr(colon + 1));
    } catch (const CLI::ParseError& problem) {
        std::exit(app.exit(problem) == 0 ? 0 : 2);
    } catch (const std::exception&) {
        std::fprintf(stderr, "--target wants HOST:PORT\n");
        std::exit(2);
    }

    load.mode = echo    ? load_mode::echo
                : abort ? load_mode::abort
                : close ? load_mode::close
                        : load_mode::keep_alive;
    const auto nanoseconds = [](double seconds) {
        return std::chrono::nanoseconds(static_cast<std::int64_t>(seconds * 1e9));
    };
    load.duration = nanoseconds(duration);
    load.warm_up = nanoseconds(warm_up);
    load.timeout = nanoseconds(timeout);
    for (unsigned at = 1; at <= source_count; ++at)
        load.sources.push_back("127.0.1." + std::to_string(at));
    if (!path_file.empty()) {
        std::ifstream file(path_file);
        for (std::string line; std::getline(file, line);)
            if (!line.empty()) load.paths.push_back(line);
    }
    if (load.paths.empty()) load.paths.push_back("/");
    load.threads = std::min(load.threads, load.connections);
    if (close || abort) load.pipeline = 1;
    if ((close || abort) && load.rate > 0) {
        std::fprintf(stderr, "--rate needs connections that stay\n");
        std::exit(2);
    }
    parsed.json_only = parsed.json == "-";
    return parsed;
}

// The CPU time of a whole process, its ended threads and the kernel's io_uring workers included:
// what /proc/PID/stat says in hundredths of a second, in nanoseconds.
std::chrono::nanoseconds cpu_time(clockid_t clock) {
    timespec time{};
    if (clock_gettime(clock, &time) != 0) return 0ns;
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

std::chrono::nanoseconds cpu_time(const std::vector<int>& pids) {
    std::chrono::nanoseconds sum{0};
    for (const int pid : pids) {
        clockid_t clock{};
        if (clock_getcpuclockid(pid, &clock) == 0) sum += cpu_time(clock);
    }
    return sum;
}

struct snapshot {
    load_worker::clock::time_point at;
    std::uint64_t responses = 0;
    std::uint64_t bytes = 0;
    std::uint64_t aborts = 0;
    std::chrono::nanoseconds server_cpu{0};
    std::chrono::nanoseconds own_cpu{0};
};

struct report {
    snapshot begin;
    snapshot end;
    latency_histogram latency;
    load_errors errors;
    std::uint64_t reopened = 0;
    std::uint64_t enters = 0;
    std::uint64_t all_responses = 0;  // warm-up and draining included
    std::size_t idle_count = 0;
    std::size_t idle_held = 0;

    double seconds() const { return std::chrono::duration<double>(end.at - begin.at).count(); }
    double each_second(std::uint64_t count) const {
        return static_cast<double>(count) / std::max(seconds(), 1e-9);
    }
};

class load_run {
public:
    load_run(const load_options& options, const std::vector<load_target>& targets)
        : options_(options) {
        if (options.requests > 0) control_.requests_left = options.requests;
        for (unsigned at = 0; at < options.threads; ++at)
            threads_.emplace_back([this, &targets, at] { work(targets, at); });
    }

    report finish() {
        while (started_.load() < options_.threads) std::this_thread::sleep_for(1ms);
        report made;
        const bool warm_up = options_.warm_up > 0ns;
        if (warm_up) {
            go_.release(options_.threads);
            wait_until(load_worker::clock::now() + options_.warm_up);
        }
        control_.measuring = true;
        made.begin = take();
        if (!warm_up) go_.release(options_.threads);
        wait_until(made.begin.at + options_.duration);
        if (options_.requests == 0) control_.measuring = false;
        made.end = take();
        control_.stopping = true;
        for (std::thread& each : threads_) each.join();
        // With a count, the answers on their way belong to it.
        if (options_.requests > 0) made.end = take();

        for (const auto& worker : workers_) {
            made.latency.add(worker->latency());
            made.errors.add(worker->errors());
            made.reopened += worker->reopened();
            made.enters += worker->enter_count();
            made.all_responses += worker->responses();
        }
        return made;
    }

private:
    void work(const std::vector<load_target>& targets, unsigned index) {
        // The ring belongs to the thread that makes it.
        auto worker = std::make_unique<load_worker>(options_, targets, control_, index);
        load_worker& mine = *worker;
        workers_[index] = std::move(worker);
        ++started_;
        go_.acquire();
        mine.run();
        ++ended_;
    }

    void wait_until(load_worker::clock::time_point when) {
        while (interrupted == 0 && ended_.load() < options_.threads &&
               control_.requests_left.load() > 0) {
            const auto left = when - load_worker::clock::now();
            if (left <= 0ns) return;
            const auto step = options_.requests > 0 ? 1ms : 20ms;
            std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(left, step));
        }
    }

    snapshot take() const {
        snapshot now;
        now.at = load_worker::clock::now();
        for (const auto& worker : workers_) {
            now.responses += worker->responses();
            now.bytes += worker->bytes();
            now.aborts += worker->aborts();
        }
        now.server_cpu = cpu_time(options_.server_pids);
        now.own_cpu = cpu_time(CLOCK_PROCESS_CPUTIME_ID);
        return now;
    }

    const load_options& options_;
    load_control control_;
    std::atomic<unsigned> started_{0};
    std::atomic<unsigned> ended_{0};
    std::counting_semaphore<> go_{0};
    std::vector<std::unique_ptr<load_worker>> workers_{options_.threads};
    std::vector<std::thread> threads_;
};

double microseconds(std::chrono::nanoseconds time) {
    return static_cast<double>(time.count()) / 1000;
}

const char* name_of(load_mode mode) {
    switch (mode) {
        case load_mode::keep_alive: return "keep-alive";
        case load_mode::close: return "close";
        case load_mode::abort: return "abort";
        case load_mode::echo: return "echo";
    }
    return "";
}

void print(const load_options& options, const report& of) {
    const std::uint64_t responses = of.end.responses - of.begin.responses;
    const std::uint64_t aborts = of.end.aborts - of.begin.aborts;
    const auto each = [&](std::chrono::nanoseconds time) {
        return microseconds(time) /
               static_cast<double>(std::max<std::uint64_t>(responses + aborts, 1));
    };
    std::printf("%s, %u connections, pipeline %u, %u threads, %.2f s\n", name_of(options.mode),
                options.connections, options.pipeline, options.threads, of.seconds());
    std::printf("responses    %llu, %.0f/s, %.1f MB/s\n",
                static_cast<unsigned long long>(responses), of.each_second(responses),
                of.each_second(of.end.bytes - of.begin.bytes) / 1e6);
    if (options.mode == load_mode::abort)
        std::printf("aborted      %llu, %.0f/s\n", static_cast<unsigned long long>(aborts),
                    of.each_second(aborts));
    std::printf("latency us   p50 %.0f  p90 %.0f  p99 %.0f  p99.9 %.0f  max %.0f  mean %.0f\n",
                microseconds(of.latency.at_share(0.5)), microseconds(of.latency.at_share(0.9)),
                microseconds(of.latency.at_share(0.99)), microseconds(of.latency.at_share(0.999)),
                microseconds(of.latency.max()), microseconds(of.latency.mean()));
    if (!options.server_pids.empty())
        std::printf("server CPU   %.3f us each, busy %.2f\n",
                    each(of.end.server_cpu - of.begin.server_cpu),
                    microseconds(of.end.server_cpu - of.begin.server_cpu) / 1e6 / of.seconds());
    std::printf("load CPU     %.3f us each, busy %.2f, %llu enters\n",
                each(of.end.own_cpu - of.begin.own_cpu),
                microseconds(of.end.own_cpu - of.begin.own_cpu) / 1e6 / of.seconds(),
                static_cast<unsigned long long>(of.enters));
    if (of.idle_count > 0)
        std::printf("idle         %zu of %zu held to the end\n", of.idle_held, of.idle_count);
    std::printf(
        "errors       %llu (connect %llu, send %llu, receive %llu, early %llu, "
        "surplus %llu, timeout %llu); %llu closed between responses\n",
        static_cast<unsigned long long>(of.errors.total()),
        static_cast<unsigned long long>(of.errors.connect),
        static_cast<unsigned long long>(of.errors.send),
        static_cast<unsigned long long>(of.errors.receive),
        static_cast<unsigned long long>(of.errors.early),
        static_cast<unsigned long long>(of.errors.surplus),
        static_cast<unsigned long long>(of.errors.timeout),
        static_cast<unsigned long long>(of.reopened));
}

bool print_json(const std::string& path, const load_options& options, const report& of) {
    std::FILE* file = path == "-" ? stdout : std::fopen(path.c_str(), "w");
    if (file == nullptr) return false;
    const std::uint64_t responses = of.end.responses - of.begin.responses;
    std::fprintf(file,
                 "{\"mode\": \"%s\", \"connections\": %u, \"pipeline\": %u, \"threads\": %u,\n",
                 name_of(options.mode), options.connections, options.pipeline, options.threads);
    std::fprintf(file, " \"seconds\": %.6f, \"responses\": %llu, \"all_responses\": %llu,\n",
                 of.seconds(), static_cast<unsigned long long>(responses),
                 static_cast<unsigned long long>(of.all_responses));
    std::fprintf(file, " \"requests_per_second\": %.1f, \"bytes\": %llu, \"aborts\": %llu,\n",
                 of.each_second(responses),
                 static_cast<unsigned long long>(of.end.bytes - of.begin.bytes),
                 static_cast<unsigned long long>(of.end.aborts - of.begin.aborts));
    std::fprintf(file,
                 " \"latency_us\": {\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p999\": %.1f, "
                 "\"max\": %.1f, \"mean\": %.1f},\n",
                 microseconds(of.latency.at_share(0.5)), microseconds(of.latency.at_share(0.9)),
                 microseconds(of.latency.at_share(0.99)), microseconds(of.latency.at_share(0.999)),
                 microseconds(of.latency.max()), microseconds(of.latency.mean()));
    std::fprintf(file, " \"server_cpu_seconds\": %.9f, \"load_cpu_seconds\": %.9f,\n",
                 microseconds(of.end.server_cpu - of.begin.server_cpu) / 1e6,
                 microseconds(of.end.own_cpu - of.begin.own_cpu) / 1e6);
    std::fprintf(file, " \"enters\": %llu, \"idle\": {\"count\": %zu, \"held\": %zu},\n",
                 static_cast<unsigned long long>(of.enters), of.idle_count, of.idle_held);
    std::fprintf(file,
                 " \"errors\": {\"total\": %llu, \"connect\": %llu, \"send\": %llu, "
                 "\"receive\": %llu, \"early\": %llu, \"surplus\": %llu, \"timeout\": %llu},\n"
                 " \"closed_between_responses\": %llu}\n",
                 static_cast<unsigned long long>(of.errors.total()),
                 static_cast<unsigned long long>(of.errors.connect),
                 static_cast<unsigned long long>(of.errors.send),
                 static_cast<unsigned long long>(of.errors.receive),
                 static_cast<unsigned long long>(of.errors.early),
                 static_cast<unsigned long long>(of.errors.surplus),
                 static_cast<unsigned long long>(of.errors.timeout),
                 static_cast<unsigned long long>(of.reopened));
    const bool written = std::ferror(file) == 0;
    return (file == stdout || std::fclose(file) == 0) && written;
}

void raise_fd_limit(const load_options& options) {
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    // Twice, since a connection's successor may be there before its close has been done.
    const rlim_t wanted = 2 * rlim_t{options.connections} + options.idle + 64;
    if (files.rlim_cur < wanted)
        std::fprintf(stderr, "the limit of %llu descriptors may be too low for this load\n",
                     static_cast<unsigned long long>(files.rlim_cur));
}

}  // namespace

int main(int argc, char** argv) {
    const program_options options = parse(argc, argv);
    const load_options& load = options.load;
    for (const int number : {SIGINT, SIGTERM}) std::signal(number, [](int) { interrupted = 1; });
    raise_fd_limit(load);
    try {
        const auto targets = learn_targets(load);
        std::optional<idle_connections> idle;
        if (load.idle > 0) idle.emplace(load, targets.front());
        report made = load_run(load, targets).finish();
        if (idle) {
            made.idle_count = idle->count();
            made.idle_held = idle->held();
        }
        if (!options.json_only) print(load, made);
        if (!options.json.empty() && !print_json(options.json, load, made)) {
            std::perror(options.json.c_str());
            return 1;
        }
        return made.errors.total() == 0 ? 0 : 3;
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "kevring-load: %s\n", failure.what());
        return 1;
    }
}
