// bench/load/load_worker.hpp: one thread of the load, on a ring of its own.
//
// Cheaper than any server it measures, so that the server is what is measured: bodies are not
// copied but discarded where they lie (MSG_TRUNC), responses are counted by the length that is
// known, never parsed, the clock is read once per iteration, and an iteration is one system call.
//
// Thread      run() in one thread; members that document it, from any.
// Latency     From the iteration that sent a request to the one that saw its last byte; in one
//             direction, from message to message of a connection. With a rate,
//             from the moment at which the request was due, also when it left later for want of a
//             free connection.
#pragma once

#include "bench/load/latency_histogram.hpp"
#include "bench/load/load_options.hpp"
#include "bench/support/bench_ring.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

namespace kevring::bench {

struct load_errors {
    std::uint64_t connect = 0;
    std::uint64_t send = 0;
    std::uint64_t receive = 0;  // reset, or another answer of recv(2)
    std::uint64_t early = 0;    // closed within a response
    std::uint64_t surplus = 0;  // more bytes than the response has
    std::uint64_t timeout = 0;  // no progress

    std::uint64_t total() const noexcept {
        return connect + send + receive + early + surplus + timeout;
    }
    void add(const load_errors& other) noexcept {
        connect += other.connect;
        send += other.send;
        receive += other.receive;
        early += other.early;
        surplus += other.surplus;
        timeout += other.timeout;
    }
};

// State that all workers of a run check. Written by the main thread, or by the worker that reaches
// a bound; relaxed, since nothing but the value is passed on.
struct load_control {
    std::atomic<bool> measuring{false};
    std::atomic<bool> stopping{false};
    std::atomic<std::uint64_t> requests_left{UINT64_MAX};
};

class load_worker {
public:
    using clock = std::chrono::steady_clock;

    static constexpr unsigned pipeline_max = 64;

    // `index` of `options.threads`; `targets` and `control` outlive it.
    load_worker(const load_options& options, const std::vector<load_target>& targets,
                load_control& control, unsigned index);

    void run();

    // Any thread, at any time.
    std::uint64_t responses() const noexcept { return responses_.load(std::memory_order_relaxed); }
    std::uint64_t bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }
    std::uint64_t aborts() const noexcept { return aborts_.load(std::memory_order_relaxed); }

    // After run() has returned.
    const latency_histogram& latency() const noexcept { return latency_; }
    const load_errors& errors() const noexcept { return errors_; }
    std::uint64_t reopened() const noexcept { return reopened_; }
    std::uint64_t opened() const noexcept { return opened_; }
    std::uint64_t enter_count() const noexcept { return ring_.enter_count(); }

private:
    enum class tag : std::uint8_t { connect, send, receive, finish, close };
    enum class phase : std::uint8_t { closed, connecting, open, ending };

    struct pending {
        clock::time_point since;
        std::uint64_t bytes = 0;  // still to come
        std::uint64_t whole = 0;
    };

    struct connection {
        int fd = -1;
        phase current = phase::closed;
        bool receiving = false;        // a receive of this connection is in the kernel
        bool failed = false;           // counted as an error already
        bool answered = false;         // has had a response since it was opened
        std::uint32_t generation = 0;  // counts how often it was opened
        unsigned asked_count = 0;      // requests since it was opened
        unsigned failures_in_row = 0;  // to give up on a server that is gone
        unsigned first = 0;            // of the ring `on_the_way`
        unsigned count = 0;
        std::uint64_t end_at = 0;  // abort mode: bytes after which it is reset
        clock::time_point progress;
        std::array<pending, pipeline_max> on_the_way;
    };

    static constexpr std::uint32_t generation_mask = 0xff'ffff;

    std::uint64_t label(tag what, std::size_t index) const noexcept {
        return static_cast<std::uint64_t>(what) << 56 |
               std::uint64_t{connections_[index].generation} << 32 | index;
    }

    // Messages go in one direction: the end of a send, or of what came, is the end of a message.
    bool one_way() const noexcept {
        return options_.mode == load_mode::sink || options_.mode == load_mode::source;
    }
    bool one_request() const noexcept {
        return options_.mode == load_mode::close || options_.mode == load_mode::abort;
    }

    bool used_up(const connection& one) const noexcept {
        return options_.requests_per_connection != 0 &&
               one.asked_count >= options_.requests_per_connection;
    }

    void drain();
    std::chrono::nanoseconds wait_for() const noexcept;
    void complete(const io_uring_cqe& cqe);
    void connected(std::size_t index, int result);
    void received(std::size_t index, const io_uring_cqe& cqe);
    void finished(std::size_t index, int result);
    void consume(std::size_t index, std::uint64_t bytes);
    void sunk(std::size_t index, int result);
    void answered(connection& from);

    void open(std::size_t index);
    void open_for_one_request(std::size_t index);
    void fill(std::size_t index);
    void send_next(std::size_t index, clock::time_point due);
    void send_due();
    void receive(std::size_t index);
    void fail(std::size_t index, std::uint64_t load_errors::* kind);
    void end(std::size_t index);
    void ended(std::size_t index);
    void look_for_stalls();

    bool may_ask() noexcept;
    const load_target& next_target() noexcept;
    std::uint64_t random() noexcept;
    void count_response(clock::time_point since) noexcept;

    // Constant after construction.
    const load_options& options_;
    const std::vector<load_target>& targets_;
    load_control& control_;
    unsigned index_;
    double rate_;  // of this worker, requests for each nanosecond; 0: none
    sockaddr_in server_;

    bench_ring ring_;
    std::vector<connection> connections_;
    std::vector<std::size_t> free_;    // with a rate: connections without a request
    std::vector<std::size_t> reopen_;  // in the next iteration
    std::size_t open_count_ = 0;       // connections not closed
    std::size_t next_target_ = 0;
    std::uint64_t next_source_ = 0;
    std::uint64_t random_state_;
    clock::time_point now_;
    clock::time_point started_;
    std::uint64_t asked_ = 0;
    bool stopping_ = false;

    latency_histogram latency_;
    load_errors errors_;
    std::uint64_t reopened_ = 0;
    std::uint64_t opened_ = 0;

    // Read on any thread; stored once for each response, on their own line.
    alignas(64) std::atomic<std::uint64_t> responses_{0};
    std::atomic<std::uint64_t> bytes_{0};
    std::atomic<std::uint64_t> aborts_{0};
};

}  // namespace kevring::bench
