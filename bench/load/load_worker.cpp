#include "bench/load/load_worker.hpp"

#include "bench/load/probe.hpp"

#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

namespace kevring::bench {

namespace {

using namespace std::chrono_literals;

// An iteration ends after this at the latest, to check the clock and the stop.
constexpr auto turn_max = 50ms;
constexpr auto stall_check_interval = 250ms;

// Limit of the bytes that one completion can discard from a socket. The buffers are never written
// to, so all of them are the same memory, and it is never touched.
constexpr unsigned discard_bytes = 1 << 20;

// A server that is gone is not dialled for ever.
constexpr unsigned failures_in_row_max = 100;

std::uint64_t own_share(std::uint64_t of_all, unsigned threads, unsigned index) {
    return of_all / threads + (index < of_all % threads ? 1 : 0);
}

}  // namespace

load_worker::load_worker(const load_options& options, const std::vector<load_target>& targets,
                         load_control& control, unsigned index)
    : options_(options),
      targets_(targets),
      control_(control),
      index_(index),
      rate_(static_cast<double>(options.rate) / options.threads / 1e9),
      server_(server_address(options)),
      ring_({.submission_count = 4096,
             .completion_count = 16384,
             .buffer_count = 256,
             .buffer_bytes = discard_bytes,
             .discard = true}),
      connections_(own_share(options.connections, options.threads, index)),
      next_target_(targets.size() * index / options.threads),
      random_state_(0x9e3779b97f4a7c15U * (index + 1)) {}

void load_worker::run() {
    if (!options_.cpus.empty()) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(static_cast<unsigned>(options_.cpus[index_ % options_.cpus.size()]), &set);
        pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    }
    started_ = now_ = clock::now();
    for (std::size_t i = 0; i < connections_.size(); ++i) open(i);

    std::vector<std::size_t> again;
    clock::time_point stall_check = now_ + stall_check_interval;
    while (open_count_ > 0 || !reopen_.empty()) {
        bool woken = false;
        ring_.run_once(wait_for().count(), [&](const io_uring_cqe& cqe) {
            if (!woken) now_ = clock::now();  // once per iteration, for all of its completions
            woken = true;
            complete(cqe);
        });
        if (!woken || rate_ > 0) now_ = clock::now();
        if (control_.stopping.load(std::memory_order_relaxed)) return drain();
        if (rate_ > 0) send_due();
        again.clear();
        again.swap(reopen_);
        for (const std::size_t i : again) open(i);
        if (now_ < stall_check) continue;
        stall_check = now_ + stall_check_interval;
        look_for_stalls();
    }
}

// Responses in flight may still arrive, for a bounded time; then all connections are closed.
void load_worker::drain() {
    stopping_ = true;
    reopen_.clear();
    for (std::size_t i = 0; i < connections_.size(); ++i)
        if (connections_[i].count == 0) end(i);
    const auto until =
        clock::now() + (options_.requests > 0 ? options_.timeout : std::chrono::nanoseconds(1s));
    bool patient = true;
    while (open_count_ > 0 && now_ < until + 1s) {  // whatever is left then goes with the ring
        ring_.run_once(std::chrono::nanoseconds(turn_max).count(),
                       [this](const io_uring_cqe& cqe) { complete(cqe); });
        now_ = clock::now();
        if (!patient || now_ < until) continue;
        patient = false;
        for (std::size_t i = 0; i < connections_.size(); ++i) end(i);
    }
}

std::chrono::nanoseconds load_worker::wait_for() const noexcept {
    if (rate_ == 0 || free_.empty()) return turn_max;
    const auto due = started_ + std::chrono::nanoseconds(
                                    static_cast<std::int64_t>(static_cast<double>(asked_) / rate_));
    return std::clamp<std::chrono::nanoseconds>(due - now_, 1us, turn_max);
}

void load_worker::complete(const io_uring_cqe& cqe) {
    const std::size_t index = cqe.user_data & UINT32_MAX;
    // A failed send may be reported after its connection was closed and opened again.
    if (label(static_cast<tag>(cqe.user_data >> 56), index) != cqe.user_data) return;
    switch (static_cast<tag>(cqe.user_data >> 56)) {
        case tag::connect: return connected(index, cqe.res);
        case tag::receive: return received(index, cqe);
        case tag::finish: return finished(index, cqe.res);
        case tag::close: return;
        case tag::send: break;
    }
    if (options_.mode == load_mode::sink) return sunk(index, cqe.res);
    // Only failures get here; the receive ends the connection. Requests that were cancelled
    // together with a failed connect are not counted twice.
    if (cqe.res != -ECANCELED) fail(index, &load_errors::send);
}

// Connections that stay: connect, then one multishot receive for the rest of their life.

void load_worker::open(std::size_t index) {
    connection& fresh = connections_[index];
    if (fresh.failures_in_row >= failures_in_row_max) return;
    if (one_request() && !may_ask()) return;
    try {
        fresh.fd = make_socket(options_, index_ + options_.threads * next_source_++);
    } catch (const std::system_error&) {
        ++errors_.connect;
        ++fresh.failures_in_row;
        reopen_.push_back(index);
        return;
    }
    fresh.current = phase::connecting;
    fresh.receiving = false;
    fresh.failed = false;
    fresh.answered = false;
    fresh.asked_count = 0;
    fresh.generation = (fresh.generation + 1) & generation_mask;
    fresh.first = fresh.count = 0;
    fresh.progress = now_;
    ++open_count_;
    ++opened_;
    if (one_request()) return open_for_one_request(index);

    io_uring_sqe& sqe = ring_.next();
    io_uring_prep_connect(&sqe, fresh.fd, reinterpret_cast<const sockaddr*>(&server_),
                          sizeof server_);
    sqe.user_data = label(tag::connect, index);
}

void load_worker::connected(std::size_t index, int result) {
    connection& one = connections_[index];
    if (result < 0) {
        // In a chain the receive's completion follows, and ends it.
        if (result != -ECANCELED) fail(index, &load_errors::connect);
        if (!one_request()) ended(index);
        return;
    }
    if (one.current == phase::ending) return ended(index);
    one.current = phase::open;
    one.progress = now_;
    receive(index);
    if (rate_ > 0) {
        for (unsigned i = 0; i < options_.pipeline; ++i) free_.push_back(index);
    } else {
        fill(index);
    }
}

void load_worker::receive(std::size_t index) {
    connection& loop = connections_[index];
    io_uring_sqe& sqe = ring_.next();
    io_uring_prep_recv_multishot(&sqe, loop.fd, nullptr, 0, MSG_TRUNC);
    sqe.flags |= IOSQE_BUFFER_SELECT;
    sqe.buf_group = bench_ring::buffer_group;
    sqe.user_data = label(tag::receive, index);
    loop.receiving = true;
}

void load_worker::fill(std::size_t index) {
    connection& one = connections_[index];
    while (one.count < options_.pipeline && !used_up(one) && may_ask()) send_next(index, now_);
}

void load_worker::send_next(std::size_t index, clock::time_point due) {
    connection& loop = connections_[index];
    const load_target& target = next_target();
    pending& added = loop.on_the_way[(loop.first + loop.count) % pipeline_max];
    added.since = due;
    added.whole = added.bytes = target.response_bytes;
    ++loop.count;
    ++loop.asked_count;
    loop.progress = now_;
    if (options_.mode == load_mode::source) return;  // it comes by itself
    io_uring_sqe& sqe = ring_.next();
    io_uring_prep_send(&sqe, loop.fd, target.request.data(), target.request.size(),
                       MSG_WAITALL | MSG_NOSIGNAL);
    if (options_.mode != load_mode::sink) sqe.flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe.user_data = label(tag::send, index);
}

// The server's side has taken a message, or the connection has ended.
void load_worker::sunk(std::size_t index, int result) {
    connection& to = connections_[index];
    if (result < 0) {
        if (result != -ECANCELED) fail(index, &load_errors::send);
        return;
    }
    if (to.current != phase::open ||
        static_cast<std::uint64_t>(result) < to.on_the_way[to.first].whole)
        return;
    bytes_.store(bytes() + static_cast<std::uint64_t>(result), std::memory_order_relaxed);
    to.progress = now_;
    answered(to);
    if (stopping_)
        end(index);
    else
        fill(index);
}

// With a rate, requests leave when they are due, on whatever connection is free.
void load_worker::send_due() {
    const auto elapsed = static_cast<double>((now_ - started_).count());
    const auto due_count = static_cast<std::uint64_t>(elapsed * rate_) + 1;  // the first at once
    while (asked_ < due_count && !free_.empty()) {
        if (!may_ask()) return;
        const std::size_t index = free_.back();
        free_.pop_back();
        const auto due = started_ + std::chrono::nanoseconds(static_cast<std::int64_t>(
                                        static_cast<double>(asked_) / rate_));
        ++asked_;
        send_next(index, due);
    }
}

void load_worker::received(std::size_t index, const io_uring_cqe& cqe) {
    connection& from = connections_[index];
    if (cqe.flags & IORING_CQE_F_BUFFER)
        ring_.recycle(static_cast<std::uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT));
    if (cqe.res > 0 && from.current == phase::open)
        consume(index, static_cast<std::uint64_t>(cqe.res));
    if (cqe.flags & IORING_CQE_F_MORE) return;
    from.receiving = false;
    if (from.current == phase::open && (cqe.res > 0 || cqe.res == -ENOBUFS)) return receive(index);
    if (from.current == phase::open) {
        // A server may close between responses, but not before the first or within one.
        const pending& front = from.on_the_way[from.first];
        const bool may_close = from.answered && (from.count == 0 || front.bytes == front.whole);
        if (cqe.res < 0) {
            fail(index, &load_errors::receive);
        } else if (!may_close) {
            fail(index, &load_errors::early);
        } else {
            ++reopened_;
        }
    }
    ended(index);
}

void load_worker::answered(connection& from) {
    from.failures_in_row = 0;
    from.answered = true;
    const clock::time_point since = from.on_the_way[from.first].since;
    from.first = (from.first + 1) % pipeline_max;
    --from.count;
    count_response(since);
}

void load_worker::consume(std::size_t index, std::uint64_t bytes) {
    connection& from = connections_[index];
    from.progress = now_;
    bytes_.store(this->bytes() + bytes, std::memory_order_relaxed);
    while (bytes > 0) {
        if (from.count == 0 && one_way()) break;  // the last message has come
        if (from.count == 0) return fail(index, &load_errors::surplus);
        pending& front = from.on_the_way[from.first];
        const std::uint64_t taken = std::min(bytes, front.bytes);
        front.bytes -= taken;
        bytes -= taken;
        if (front.bytes > 0) return;
        answered(from);
        if (rate_ > 0) free_.push_back(index);
        // More than one message of a source may have come.
        if (options_.mode == load_mode::source && !stopping_) fill(index);
    }
    if (stopping_ || used_up(from)) {
        if (from.count == 0) end(index);
    } else if (rate_ == 0) {
        fill(index);
    }
}

// A connection for each request: connect, send and receive are one chain, and its last member
// completes when all is over. One byte more than the response has is asked for, so that it also
// waits for the end of the stream, and sees when there is more.

void load_worker::open_for_one_request(std::size_t index) {
    connection& one = connections_[index];
    const load_target& target = next_target();
    one.count = 1;
    one.on_the_way[0] = {now_, target.response_bytes, target.response_bytes};
    one.first = 0;
    one.end_at = target.response_bytes + 1;
    if (options_.mode == load_mode::abort) {
        one.end_at = 1 + random() % target.response_bytes;
        const linger reset{.l_onoff = 1, .l_linger = 0};
        setsockopt(one.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }

    io_uring_sqe& dial = ring_.next();
    io_uring_prep_connect(&dial, one.fd, reinterpret_cast<const sockaddr*>(&server_),
                          sizeof server_);
    dial.flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
    dial.user_data = label(tag::connect, index);

    io_uring_sqe& ask = ring_.next();
    io_uring_prep_send(&ask, one.fd, target.request.data(), target.request.size(),
                       MSG_WAITALL | MSG_NOSIGNAL);
    ask.flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
    ask.user_data = label(tag::send, index);

    io_uring_sqe& hear = ring_.next();
    io_uring_prep_recv(&hear, one.fd, ring_.buffer(0), one.end_at, MSG_TRUNC | MSG_WAITALL);
    hear.user_data = label(tag::finish, index);
    one.receiving = true;
}

void load_worker::finished(std::size_t index, int result) {
    connection& one = connections_[index];
    one.receiving = false;
    const std::uint64_t wanted = one.on_the_way[0].bytes;
    const auto got = static_cast<std::uint64_t>(std::max(result, 0));
    bytes_.store(bytes() + got, std::memory_order_relaxed);
    if (one.current == phase::ending) {
        // It timed out, or the run is over: counted already.
    } else if (options_.mode == load_mode::abort && got >= one.end_at) {
        // More may have come: bytes that are discarded do not count towards what MSG_WAITALL
        // still wants when the ring takes up the receive again (seen on 6.18).
        aborts_.store(aborts() + 1, std::memory_order_relaxed);
        one.failures_in_row = 0;
    } else if (result < 0) {
        if (result != -ECANCELED) fail(index, &load_errors::receive);
    } else if (got < wanted) {
        fail(index, &load_errors::early);
    } else if (got > wanted) {
        fail(index, &load_errors::surplus);
    } else {
        one.failures_in_row = 0;
        count_response(one.on_the_way[0].since);
    }
    ended(index);
}

// The end of a connection. Its receive must have ended before its descriptor is closed, or the
// kernel would keep the socket.

void load_worker::fail(std::size_t index, std::uint64_t load_errors::* kind) {
    connection& one = connections_[index];
    if (!one.failed && !stopping_) ++(errors_.*kind);
    one.failed = true;
    ++one.failures_in_row;
    end(index);
}

void load_worker::end(std::size_t index) {
    connection& one = connections_[index];
    if (one.current == phase::closed || one.current == phase::ending) return;
    one.current = phase::ending;
    // Not shutdown(2): it does not end a connect that waits in the ring (seen on 6.18).
    io_uring_sqe& sqe = ring_.next();
    io_uring_prep_cancel_fd(&sqe, one.fd, IORING_ASYNC_CANCEL_ALL);
    sqe.flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe.user_data = label(tag::close, index);
}

void load_worker::ended(std::size_t index) {
    connection& one = connections_[index];
    if (one.receiving || one.current == phase::closed) return;
    one.current = phase::closed;
    one.count = 0;
    io_uring_sqe& sqe = ring_.next();
    io_uring_prep_close(&sqe, one.fd);
    sqe.flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe.user_data = label(tag::close, index);
    one.fd = -1;
    --open_count_;
    if (rate_ > 0) std::erase(free_, index);
    if (!stopping_) reopen_.push_back(index);
}

void load_worker::look_for_stalls() {
    for (std::size_t i = 0; i < connections_.size(); ++i) {
        const connection& one = connections_[i];
        const bool waits =
            one.current == phase::connecting || (one.current == phase::open && one.count > 0);
        if (waits && now_ - one.progress > options_.timeout) fail(i, &load_errors::timeout);
    }
}

bool load_worker::may_ask() noexcept {
    if (stopping_) return false;
    if (options_.requests == 0) return true;
    // Taken one by one: bounded runs are short, and all threads share the bound.
    auto left = control_.requests_left.load(std::memory_order_relaxed);
    while (left > 0)
        if (control_.requests_left.compare_exchange_weak(left, left - 1, std::memory_order_relaxed))
            return true;
    return false;
}

const load_target& load_worker::next_target() noexcept {
    if (options_.random_order) return targets_[random() % targets_.size()];
    if (next_target_ >= targets_.size()) next_target_ = 0;
    return targets_[next_target_++];
}

std::uint64_t load_worker::random() noexcept {  // xorshift64
    random_state_ ^= random_state_ << 13;
    random_state_ ^= random_state_ >> 7;
    random_state_ ^= random_state_ << 17;
    return random_state_;
}

void load_worker::count_response(clock::time_point since) noexcept {
    responses_.store(responses() + 1, std::memory_order_relaxed);
    if (control_.measuring.load(std::memory_order_relaxed)) latency_.record(now_ - since);
}

}  // namespace kevring::bench
