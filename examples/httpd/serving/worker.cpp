#include "worker.hpp"

#include "connection.hpp"
#include "examples/httpd/http/response_head.hpp"

#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/sleep.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <mutex>
#include <utility>

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

namespace httpd {
namespace {

// Blocks that are kept for the next responses; more are given back when a burst is over.
constexpr std::size_t free_block_count_max = 64;
constexpr std::size_t shared_count_max = free_block_count_max;  // each holds one

// The drain time: clients that have not been served by then are let go.
kevring::task<void> stop_later(kevring::task_scope& clients, std::chrono::milliseconds time) {
    const auto slept = co_await kevring::sleep_for(time);
    if (slept) clients.request_stop();
}

}  // namespace

worker::worker(kevring::ring& loop, shared_state& shared, worker_change begin, report_slot& reports)
    : loop_(loop), shared_(shared), reports_(reports), log_(begin.next->log) {
    free_blocks_.reserve(free_block_count_max);
    shared_responses_.reserve(shared_count_max);
    set_configuration(std::move(begin.next));
    for (opened_listener& each : begin.opened)
        listeners_.emplace_back(each.number, kevring::listener(loop_, std::move(each.socket)));
}

kevring::task<void> worker::serve() {
    kevring::cancel_scope& outer = co_await kevring::current_scope();
    kevring::task_scope logging(loop_, &outer);
    kevring::task_scope clients(loop_, &outer);
    kevring::task_scope accepting(loop_, &outer);
    logging_ = &logging;
    clients_ = &clients;
    accepting_ = &accepting;
    write_log();
    for (auto each = listeners_.begin(); each != listeners_.end();)
        accepting.spawn(accept_from(*each++));
    co_await accepting.join();
    accepting_ = nullptr;  // new clients are refused from here on

    kevring::task_scope limit(loop_, &outer);
    limit.spawn(stop_later(clients, options().drain_time));
    co_await clients.join();
    clients_ = nullptr;
    limit.request_stop();
    co_await limit.join();
    logging_ = nullptr;
    logging.request_stop();
    co_await logging.join();
}

void worker::change(worker_change to) {
    set_configuration(std::move(to.next));
    write_log();
    if (accepting_ == nullptr || draining_ || retiring_) return;
    // first: a loop without a door would end
    for (opened_listener& each : to.opened) {
        listeners_.emplace_back(each.number, kevring::listener(loop_, std::move(each.socket)));
        accepting_->spawn(accept_from(listeners_.back()));
    }
    for (const unsigned number : to.closed) {
        const auto found = std::ranges::find(listeners_, number, &worker_listener::number);
        if (found == listeners_.end()) continue;
        found->closing = true;
        found->listener.finish();
    }
}

void worker::set_configuration(std::shared_ptr<const configuration> next) {
    // Held by way of a count that no other loop touches: each request counts itself.
    const auto own = std::make_shared<std::shared_ptr<const configuration>>(std::move(next));
    clear_shared();
    cache_.reset();  // first: what is in it belongs to the configuration that goes
    watch_.reset();
    current_ = std::shared_ptr<const configuration>(own, own->get());
    cache_.emplace(options().open_file_count_max, options().content_bytes_max);
    watch_.emplace(current_->files.root());
    log_.set_target(current_->log);
    timing_enabled_ = log_.enabled() || !options().metrics.empty();
}

void worker::write_log() {
    if (logging_ != nullptr && log_.enabled() && !log_.is_running())
        logging_->spawn(log_.run(loop_));
}

kevring::task<void> worker::accept_from(worker_listener& from) {
    while (true) {
        auto accepted = co_await from.listener.accept();
        if (!accepted) break;
        on_accept(std::move(*accepted));
    }
    if (from.closing || retiring_) accept_backlog(from);
    listeners_.remove_if([&](const worker_listener& each) { return &each == &from; });
}

// Who has connected has been promised an answer, but the kernel resets those that wait at a socket
// when the last one closes it. Where others go on with the socket, one connection may have woken
// this process alone, just when it ceased to accept (a wait for connections is exclusive), and
// would wait until another comes.
void worker::accept_backlog(worker_listener& from) {
    const int socket = from.listener.native().number();
    // O_NONBLOCK would be everybody's who shares the socket, and end their requests; this shows
    // only in calls that wait in the kernel, as nobody else's do.
    const auto set_timeout = [&](suseconds_t microseconds) {
        const timeval time{.tv_sec = 0, .tv_usec = microseconds};
        return ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0;
    };
    const std::lock_guard alone(shared_.backlog_mutex);  // another loop may have the same socket
    if (!set_timeout(1)) return;
    // Only those that are there: who comes from now on wakes the others, and to wait for each, or
    // to take whoever comes, would hold this loop up for as long as clients come.
    pollfd waiting{.fd = socket, .events = POLLIN, .revents = 0};
    const int count_max = kevring::listener_options().backlog;
    for (int count = 0; count < count_max && ::poll(&waiting, 1, 0) == 1; ++count) {
        kevring::fd client(::accept4(socket, nullptr, nullptr, SOCK_CLOEXEC));
        if (client)
            on_accept(kevring::socket(loop_, std::move(client)));
        else if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
            break;  // no descriptor is left; EAGAIN: another process has taken it
    }
    set_timeout(0);
}

void worker::on_accept(kevring::socket client) {
    const unsigned connected = shared_.connection_count.load(std::memory_order_relaxed);
    if (connected < options().connection_count_max)
        clients_->spawn(connection::serve(*this, std::move(client)));
    else if (rejecting_count_ < options().clients_rejecting_max)
        clients_->spawn(reject(std::move(client)));
}

kevring::task<void> worker::reject(kevring::socket client) {
    ++rejecting_count_;
    ++counters_.rejected;
    std::array<char, 1024> buffer;
    short_response what;
    what.status = 503;
    what.lines = "Server: kevring\r\nRetry-After: 1\r\n";
    what.date = date();
    const std::string_view text = write_short_response(buffer, what);
    const auto sent = co_await client.send(text);
    if (sent) co_await client.close();
    --rejecting_count_;
}

void worker::drain() noexcept {
    if (draining_) {
        if (clients_ != nullptr) clients_->request_stop();
        return;
    }
    draining_ = true;
    if (accepting_ != nullptr) accepting_->request_stop();
    for (connection* each : connections_) each->drain();
}

void worker::retire() noexcept {
    retiring_ = true;
    // What the kernel has accepted for this process is served by it.
    for (worker_listener& each : listeners_) each.listener.finish();
}

void worker::report() noexcept {
    worker_report now;
    now.counted = counters_;
    now.loop = loop_.counters();
    now.starved = loop_.service<kevring::buffer_pool>().starved_count();
    now.log_lines_dropped = log_.dropped_count();
    now.open_connections = connections_.size();
    now.cached_files = cache_->open_count();
    now.content_bytes = cache_->content_bytes();
    reports_.publish(now);
}

void worker::add(connection& one) {
    one.index = connections_.size();
    connections_.push_back(&one);
    ++counters_.connections;
    shared_.connection_count.fetch_add(1, std::memory_order_relaxed);
}

void worker::remove(connection& one) noexcept {
    connections_[one.index] = connections_.back();
    connections_[one.index]->index = one.index;
    connections_.pop_back();
    shared_.connection_count.fetch_sub(1, std::memory_order_relaxed);
}

cached_file* worker::cached(std::string_view raw_path, bool may_be_closed) {
    // A change that the client can know of was made before the request came, and so before the loop
    // took the request from the kernel: in this turn, which may also have looked before that.
    const std::uint64_t moment = loop_.moment();
    if (moment != changes_generation_) {
        changes_generation_ = moment;
        clear_shared();
        watch_->apply_changes(*cache_);
    }
    cached_file* const known = cache_->find(raw_path);
    if (known == nullptr) return nullptr;
    const std::time_t now = std::time(nullptr);
    const bool is_fresh = known->is_fresh(now);
    known->used_at = now;
    if (is_fresh && known->content_valid && may_be_closed) return known;
    if (!known->file->is_open()) {
        cache_->evict_one();
        if (current_->files.reopen(loop_, *known->file)) {
            cache_->mark_open(raw_path);
            // Content is good until the look that was due, which this may not put off.
            if (!is_fresh || !known->content_valid) known->mark_checked(now);
            return known;
        }
        cache_->erase(raw_path);
        return nullptr;
    }
    if (is_fresh) return known;
    if (current_->files.is_current(*known->file)) {
        known->mark_checked(now);
        return known;
    }
    if (known->file->watched) {
        watch_->apply_changes(*cache_);  // it may have happened just now
        if (cache_->find(raw_path) != nullptr) {
            cache_->clear();
            watch_->unwatch_all();
        }
    }
    cache_->erase(raw_path);
    return nullptr;
}

void worker::cache(std::string_view raw_path, const std::shared_ptr<served_file>& file) {
    // Looked at once more when it is watched: it may have changed between the two.
    file->watched = watch_->watch(*file) && current_->files.is_current(*file);
    cache_->insert(raw_path, {.file = file, .checked_at = std::time(nullptr)});
}

// What is heard of a file that is watched is heard before it is asked for again.
void worker::keep_content(cached_file& known, std::string_view bytes) noexcept {
    if (options().content_bytes_max == 0 || !known.file->watched) return;
    char* const room = cache_->allocate_content(known, std::time(nullptr));
    if (room == nullptr) return;
    bytes.copy(room, bytes.size());
    known.content_valid = true;
}

// It may have been waited for, and another file may have come to the path meanwhile.
void worker::keep_content(std::string_view raw_path, const served_file& file,
                          std::string_view bytes) {
    if (options().content_bytes_max == 0) return;
    cached_file* const known = cached(raw_path, true);
    if (known != nullptr && known->file.get() == &file) keep_content(*known, bytes);
}

void worker::publish_shared(cached_file& known, shared_response what) {
    if (shared_responses_.size() == shared_responses_.capacity()) return;
    known.shared_generation = changes_generation_;
    known.shared_index = shared_responses_.size();
    shared_responses_.push_back(std::move(what));
}

void worker::clear_shared() noexcept {
    while (!shared_responses_.empty()) {
        std::shared_ptr<send_block> block = std::move(shared_responses_.back().block);
        shared_responses_.pop_back();
        release_block(std::move(block));
    }
}

std::shared_ptr<send_block> worker::acquire_block() {
    if (free_blocks_.empty()) return std::make_shared_for_overwrite<send_block>();
    auto block = std::move(free_blocks_.back());
    free_blocks_.pop_back();
    return block;
}

// Who holds it last puts it back.
void worker::release_block(std::shared_ptr<send_block> block) noexcept {
    if (block.use_count() == 1 &&
        free_blocks_.size() + shared_responses_.size() < free_block_count_max)
        free_blocks_.push_back(std::move(block));
}

}  // namespace httpd
