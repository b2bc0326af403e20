// bench/runtime/trees.cpp: the time of a walk and of a copy of a tree, against `cp -r` and std::filesystem.
//
// Each row alternates both ways on one tree and reports the quotient of their times as `ratio`: below 1,
// kevring takes less time. The tree is in the folder of temporary files and in the page cache.
#include <kevring/runtime/directory.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/task.hpp>

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using kevring::directory;
using kevring::ring;
using kevring::task;
using steady_clock = std::chrono::steady_clock;

class tree {
public:
    tree(std::size_t directory_count, std::size_t file_count, std::size_t file_bytes) {
        std::string name = "/tmp/kevring-bench-XXXXXX";
        if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
        root_ = name;
        const std::string content(file_bytes, 'x');
        for (std::size_t i = 0; i < directory_count; ++i) {
            const std::string folder =
                source() + '/' + std::to_string(i % 10) + '/' + std::to_string(i);
            std::filesystem::create_directories(folder);
            for (std::size_t file = 0; file < file_count; ++file)
                std::ofstream(folder + '/' + std::to_string(file)) << content;
        }
    }
    tree(const tree&) = delete;
    tree& operator=(const tree&) = delete;
    ~tree() { std::filesystem::remove_all(root_); }

    std::string source() const { return root_ + "/source"; }
    std::string target() const { return root_ + "/target"; }

private:
    std::string root_;
};

task<std::size_t> walk(ring& loop, const std::string& path) {
    auto files = directory::current(loop).walk(path);
    std::size_t count = 0;
    while (true) {
        const auto batch = co_await files.next_batch();
        if (!batch) throw std::system_error(batch.error());
        if (batch->empty()) co_return count;
        count += batch->size();
    }
}

std::size_t walk_by_filesystem(const std::string& path) {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
        benchmark::DoNotOptimize(entry.path().native().data());
        ++count;
    }
    return count;
}

task<void> copy(ring& loop, const std::string& source, const std::string& target) {
    const directory current = directory::current(loop);
    const auto copied = co_await current.copy_tree(source, current, target);
    if (!copied) throw std::system_error(copied.error());
}

void copy_by_cp(const std::string& source, const std::string& target) {
    std::vector<std::string> texts{"cp", "-r", source, target};
    std::vector<char*> arguments;
    for (std::string& text : texts) arguments.push_back(text.data());
    arguments.push_back(nullptr);
    pid_t process = 0;
    int status = 0;
    if (::posix_spawnp(&process, "cp", nullptr, nullptr, arguments.data(), environ) != 0 ||
        ::waitpid(process, &status, 0) != process || status != 0)
        throw std::runtime_error("cp");
}

template <class Function>
double seconds_of(Function function) {
    const auto begin = steady_clock::now();
    function();
    return std::chrono::duration<double>(steady_clock::now() - begin).count();
}

// `reset` runs before each of the two, and is not measured.
template <class Own, class Other, class Reset>
void compare(benchmark::State& state, Own own, Other other, Reset reset) {
    double own_seconds = 0;
    double other_seconds = 0;
    bool own_first = true;
    for (auto _ : state) {
        double now = 0;
        for (const bool is_own : {own_first, !own_first}) {
            reset();
            if (is_own)
                own_seconds += now = seconds_of(own);
            else
                other_seconds += seconds_of(other);
        }
        own_first = !own_first;
        state.SetIterationTime(now);
    }
    reset();
    state.counters["other_ms"] = 1000 * other_seconds / static_cast<double>(state.iterations());
    state.counters["ratio"] = own_seconds / other_seconds;
}

tree make_tree(const benchmark::State& state) {
    return tree(static_cast<std::size_t>(state.range(0)), static_cast<std::size_t>(state.range(1)),
                static_cast<std::size_t>(state.range(2)));
}

void walk_and_filesystem(benchmark::State& state) {
    const tree files = make_tree(state);
    ring loop;
    std::size_t own_count = 0;
    std::size_t other_count = 0;
    compare(
        state, [&] { own_count = kevring::run(loop, walk(loop, files.source())); },
        [&] { other_count = walk_by_filesystem(files.source()); }, [] {});
    if (own_count != other_count) state.SkipWithError("the walks differ");
}

void copy_and_filesystem(benchmark::State& state) {
    const tree files = make_tree(state);
    ring loop;
    compare(
        state, [&] { kevring::run(loop, copy(loop, files.source(), files.target())); },
        [&] {
            std::filesystem::copy(files.source(), files.target(),
                                  std::filesystem::copy_options::recursive);
        },
        [&] { std::filesystem::remove_all(files.target()); });
}

void copy_and_cp(benchmark::State& state) {
    const tree files = make_tree(state);
    ring loop;
    compare(
        state, [&] { kevring::run(loop, copy(loop, files.source(), files.target())); },
        [&] { copy_by_cp(files.source(), files.target()); },
        [&] { std::filesystem::remove_all(files.target()); });
}

void sizes(benchmark::internal::Benchmark* row) {
    row->ArgNames({"directory_count", "file_count", "file_bytes"})
        ->Args({100, 20, 4096})
        ->Args({4, 4, 4 << 20})
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
}

BENCHMARK(walk_and_filesystem)
    ->ArgNames({"directory_count", "file_count", "file_bytes"})
    ->Args({100, 20, 0})
    ->Args({10, 2000, 0})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(copy_and_filesystem)->Apply(sizes);
BENCHMARK(copy_and_cp)->Apply(sizes);

}  // namespace

BENCHMARK_MAIN();
