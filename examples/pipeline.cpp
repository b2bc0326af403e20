// pipeline.cpp: one loop sends numbers, another adds them; a full channel of four suspends the sender.
// Prints the sum, and the most numbers that waited. Try: build/examples/pipeline 1000
#include <kevring/kevring.hpp>

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>

namespace {

constexpr std::size_t waiting_count_max = 4;

kevring::task<void> make(kevring::cross_loop::channel<std::uint64_t>& numbers, std::uint64_t last) {
    for (std::uint64_t i = 1; i <= last; ++i) {
        const auto sent = co_await numbers.send(i);  // waits while the channel is full
        if (!sent) co_return;
    }
    numbers.close();
}

kevring::task<void> sum(kevring::cross_loop::channel<std::uint64_t>& numbers) {
    std::uint64_t total = 0;
    std::size_t waiting_count_most = 0;
    while (true) {
        waiting_count_most = std::max(waiting_count_most, numbers.size());
        const auto next = co_await numbers.receive();
        if (!next) break;  // closed and empty
        total += *next;
    }
    std::printf("%" PRIu64 "\n", total);
    std::printf("%s\n", waiting_count_most <= waiting_count_max ? "bounded" : "unbounded");
}

}  // namespace

int main(int argc, char** argv) try {
    const std::uint64_t last = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1000;
    kevring::cross_loop::channel<std::uint64_t> numbers(waiting_count_max);
    kevring::run(2,
                 [&](unsigned index) { return index == 0 ? make(numbers, last) : sum(numbers); });
} catch (const std::exception& failure) {
    std::fprintf(stderr, "pipeline: %s\n", failure.what());
    return 1;
}
