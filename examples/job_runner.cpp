// job_runner.cpp: runs commands side by side, each with a timeout, and prints what they wrote.
//
//   job_runner [--jobs N] [--timeout MILLISECONDS] <LIST
//
// LIST has one shell command per line. Exit status: 0 if all succeeded.
#include <kevring/kevring.hpp>

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
constexpr std::size_t output_bytes_max = 1 << 20;
constexpr auto grace = 2s;  // between SIGTERM and SIGKILL

struct totals {
    int failed = 0;
};

std::string describe(const kevring::exit_status& status, bool timed_out) {
    if (timed_out) return "timed out";
    if (status.kind == kevring::exit_status::exit_kind::exited)
        return "exit " + std::to_string(status.code);
    return "signal " + std::to_string(status.code);
}

// Keeps what fits and discards the rest, so that the command is never blocked by a full pipe.
kevring::task<int> capture(kevring::pipe_reader& output, std::string& text) {
    const auto all = co_await output.read_all(text, output_bytes_max);
    if (all || all.error() != std::errc::message_size) co_return 0;
    text += "\n[cut]";
    std::string rest;
    while (true) {
        rest.clear();
        const auto more = co_await output.read_all(rest, output_bytes_max);
        if (more || more.error() != std::errc::message_size) co_return 0;
    }
}

kevring::task<void> run_job(std::string command, std::chrono::milliseconds limit, totals& all) {
    kevring::child_options options;
    options.output = kevring::child_stream::pipe();
    options.error = kevring::child_stream::output();
    auto child = kevring::child_process::spawn({"/bin/sh", "-c", command}, options);
    if (!child) {
        ++all.failed;
        std::printf("%s: %s\n", command.c_str(), child.error().message().c_str());
        co_return;
    }
    std::string text;
    bool timed_out = false;
    auto wait = [&]() -> kevring::task<kevring::exit_status> {
        auto ended_by_itself = child->wait();
        const auto in_time = co_await kevring::with_timeout(std::move(ended_by_itself), limit);
        if (in_time) co_return *in_time;
        timed_out = in_time.error() == std::errc::timed_out;
        auto ended = co_await child->terminate(grace);
        co_return kevring::value_or_throw(std::move(ended), "terminate");
    };
    const auto [read, status] = co_await kevring::when_all(capture(child->output(), text), wait());
    static_cast<void>(read);
    if (!status.success()) ++all.failed;
    if (!text.empty() && text.back() != '\n') text += '\n';
    std::printf("%s: %s\n%s", command.c_str(), describe(status, timed_out).c_str(), text.c_str());
}

kevring::task<void> run_all(const std::vector<std::string>& commands, std::size_t job_count,
                            std::chrono::milliseconds limit, totals& all) {
    kevring::limited_task_scope jobs(*kevring::ring::current(), job_count);
    for (const std::string& command : commands) {
        const auto spawned = co_await jobs.spawn(run_job(command, limit, all));
        if (!spawned) break;
    }
    co_await jobs.join();
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Runs the commands of standard input side by side.");
    std::size_t job_count = 4;
    long limit_ms = 10'000;
    options.add_option("--jobs", job_count, "commands at the same time")->capture_default_str();
    options.add_option("--timeout", limit_ms, "milliseconds for each command")
        ->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    std::vector<std::string> commands;
    for (std::string line; std::getline(std::cin, line);) commands.push_back(line);
    totals all;
    kevring::run(run_all(commands, job_count, std::chrono::milliseconds(limit_ms), all));
    return all.failed == 0 ? 0 : 1;
} catch (const std::exception& failure) {
    std::fprintf(stderr, "job_runner: %s\n", failure.what());
    return 2;
}
