#include "bench/load/load_options.hpp"

#include "bench/load/load_worker.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>

namespace kevring::bench {

namespace {

std::uint16_t to_port(const std::string& text) {
    const unsigned long value = std::stoul(text);
    if (value < 1 || value > 65535) throw CLI::ValidationError("--target", "wants HOST:PORT");
    return static_cast<std::uint16_t>(value);
}

}  // namespace

load_options parse_load_options(int argc, char** argv) {
    load_options load;
    std::string target = "127.0.0.1:8080";
    std::string path_file;
    unsigned source_count = 0;
    bool close = false;
    bool abort = false;
    bool echo = false;
    bool sink = false;
    bool source = false;
    double duration = 10;
    double warm_up = 0;
    double timeout = 5;

    CLI::App app{
        "A load for HTTP and stream servers: asks, counts the bytes that come back, discards "
        "them.\n"
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
    auto* sink_flag = app.add_flag("--to-sink", sink, "no HTTP: messages that the server receives");
    auto* source_flag =
        app.add_flag("--from-source", source, "no HTTP: messages that the server sends on its own");
    close_flag->excludes(abort_flag);
    echo_flag->excludes(close_flag)->excludes(abort_flag);
    for (auto* one_way : {sink_flag, source_flag})
        one_way->excludes(close_flag)->excludes(abort_flag)->excludes(echo_flag);
    sink_flag->excludes(source_flag);
    app.add_option("--message-bytes", load.message_bytes, "of an echo message, or in one direction")
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
    auto* rate_option =
        app.add_option("--rate", load.rate, "requests a second; default: as fast as can be");
    app.add_option("--requests-per-connection", load.requests_per_connection,
                   "then the connection is closed, and another opened; default: no bound")
        ->check(CLI::Range(1, 1000000))
        ->excludes(close_flag)
        ->excludes(abort_flag)
        ->excludes(echo_flag)
        ->excludes(sink_flag)
        ->excludes(source_flag)
        ->excludes(rate_option);
    app.add_option("--idle", load.idle, "further connections that ask once and are then held")
        ->check(CLI::Range(0, 1000000));
    app.add_option("--source", load.sources, "an address to connect from; several: in turn");
    app.add_option("--congestion", load.congestion, "TCP congestion control of the connections");
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
    app.add_option("--json", load.json, "write the report as JSON to this file, or - alone");
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

    load.mode = echo     ? load_mode::echo
                : sink   ? load_mode::sink
                : source ? load_mode::source
                : abort  ? load_mode::abort
                : close  ? load_mode::close
                         : load_mode::keep_alive;
    const auto nanoseconds = [](double seconds) {
        return std::chrono::nanoseconds(static_cast<std::int64_t>(seconds * 1e9));
    };
    load.duration = nanoseconds(duration);
    load.warm_up = nanoseconds(warm_up);
    load.timeout = nanoseconds(timeout);
    for (unsigned number = 1; number <= source_count; ++number)
        load.sources.push_back("127.0.1." + std::to_string(number));
    if (!path_file.empty()) {
        std::ifstream file(path_file);
        for (std::string line; std::getline(file, line);)
            if (!line.empty()) load.paths.push_back(line);
    }
    if (load.paths.empty()) load.paths.push_back("/");
    load.threads = std::min(load.threads, load.connections);
    if (close || abort) load.pipeline = 1;
    if (sink || source) load.pipeline = 1;
    if ((sink || source) && load.rate > 0) {
        std::fprintf(stderr, "--rate is for messages that are answered\n");
        std::exit(2);
    }
    if ((close || abort) && load.rate > 0) {
        std::fprintf(stderr, "--rate needs connections that stay\n");
        std::exit(2);
    }
    return load;
}

}  // namespace kevring::bench
