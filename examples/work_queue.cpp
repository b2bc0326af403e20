// work_queue.cpp: two threads, each with a loop of its own, take jobs from one queue. A job is a user
// event, which one free thread takes.
#include <kevring/kevent/event_queue.hpp>
#include <kevring/runtime/run.hpp>

#include <atomic>
#include <cstdio>
#include <exception>

namespace {

constexpr std::uint64_t job_count = 1000;
constexpr std::uint64_t end_of_work = job_count;

// Takes jobs until the event that follows the last one, which it passes to the other thread.
kevring::task<void> work(kevring::event_queue queue, std::atomic<std::uint64_t>& sum,
                         std::atomic<std::uint64_t>& done) {
    while (true) {
        auto got = co_await queue.next();
        const auto job = kevring::value_or_throw(std::move(got), "queue");
        if (job.number() == end_of_work) {
            queue.notify(kevring::user_event(end_of_work));  // for the other thread
            co_return;
        }
        sum += job.number();
        if (++done == job_count) queue.notify(kevring::user_event(end_of_work));
    }
}

}  // namespace

int main() try {
    kevring::event_queue queue;
    for (std::uint64_t job = 0; job < job_count; ++job)
        kevring::value_or_throw(queue.add(kevring::user_event(job), {}, kevring::repeat::once),
                                "job");
    kevring::value_or_throw(queue.add(kevring::user_event(end_of_work)), "job");
    for (std::uint64_t job = 0; job < job_count; ++job) queue.notify(kevring::user_event(job));

    std::atomic<std::uint64_t> sum{0};
    std::atomic<std::uint64_t> done{0};
    kevring::run(2, [&](unsigned) { return work(queue.share(), sum, done); });
    std::printf("done: %llu, sum: %llu\n", static_cast<unsigned long long>(done),
                static_cast<unsigned long long>(sum));
} catch (const std::exception& failure) {
    std::fprintf(stderr, "work_queue: %s\n", failure.what());
    return 1;
}
