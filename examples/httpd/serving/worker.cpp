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
constexpr std::size_t made_count_max = free_block_count_max;  // each holds one

// The drain time: clients that have not been served by then are let go.
kevring::task<void> stop_later(kevring::task_scope& clients, std::chrono::milliseconds time) {
    const auto slept = co_await kevring::sleep_for(time);
    if (slept) clients.request_stop();
}

}  // namespace

worker::worker(kevring::ring& on, shared_state& shared, worker_change begin, report_slot& reports)
    : ring_(on), shared_(shared), reports_(reports), log_(begin.with->log) {
    free_blocks_.reserve(free_block_count_max);
    made_.reserve(made_count_max);
    use(std::move(begin.with));
    for (opened_door& each : begin.opened)
        doors_.emplace_back(each.door, kevring::listener(ring_, std::move(each.socket)));
}

kevring::task<void> worker::serve() {
    kevring::cancel_scope& outer = co_await kevring::current_scope();
    kevring::task_scope logging(ring_, &outer);
    kevring::task_scope clients(ring_, &outer);
    kevring::task_scope accepting(ring_, &outer);
    logging_ = &logging;
    clients_ = &clients;
    accepting_ = &accepting;
    write_log();
    for (auto each = doors_.begin(); each != doors_.end();) accepting.spawn(accept_from(*each++));
    co_await accepting.join();
    accepting_ = nullptr;  // new clients are refused from here on

    kevring::task_scope limit(ring_, &outer);
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
    use(std::move(to.with));
    write_log();
    if (accepting_ == nullptr || draining_ || retiring_) return;
    // first: a loop without a door would end
    for (opened_door& each : to.opened) {
        doors_.emplace_back(each.door, kevring::listener(ring_, std::move(each.socket)));
        accepting_->spawn(accept_from(doors_.back()));
    }
    for (const unsigned number : to.closed) {
        const auto found = std::ranges::find(doors_, number, &door::number);
        if (found == doors_.end()) continue;
        found->closing = true;
        found->listener.finish();
    }
}

void worker::use(std::shared_ptr<const configuration> next) {
    // Held by way of a count that no other loop touches: each request counts itself.
    const auto own = std::make_shared<std::shared_ptr<const configuration>>(std::move(next));
    forget_made();
    cache_.reset();  // first: what is in it belongs to the configuration that goes
    watch_.reset();
    current_ = std::shared_ptr<const configuration>(own, own->get());
    cache_.emplace(options().open_file_count_max, options().content_bytes_max);
    watch_.emplace(current_->files.root());
    log_.use(current_->log);
    timed_ = log_.enabled() || !options().metrics.empty();
}

void worker::write_log() {
    if (logging_ != nullptr && log_.enabled() && !log_.is_written())
        logging_->spawn(log_.write_lines(ring_));
}

kevring::task<void> worker::accept_from(door& from) {
    while (true) {
        auto accepted = co_await from.listener.accept();
        if (!accepted) break;
        welcome(std::move(*accepted));
    }
    if (from.closing || retiring_) accept_rest(from);
    doors_.remove_if([&](const door& each) { return &each == &from; });
}

// Who has connected has been promised an answer, but the kernel resets those that wait at a socket
// when the last one closes it. Where others go on with the socket, one connection may have woken
// this process alone, just when it ceased to accept (a wait for connections is exclusive), and
// would wait until another comes.
void worker::accept_rest(door& from) {
    const int socket = from.listener.native().number();
    // O_NONBLOCK would be everybody's who shares the socket, and end their requests; this shows
    // only in calls that wait in the kernel, as nobody else's do.
    const auto set_timeout = [&](suseconds_t microseconds) {
        const timeval time{.tv_sec = 0, .tv_usec = microseconds};
        return ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0;
    };
    const std::lock_guard alone(shared_.last_accept);  // another loop may have the same socket
    if (!set_timeout(1)) return;
    // Only those that are there: who comes from now on wakes the others, and to wait for each, or
    // to take whoever comes, would hold this loop up for as long as clients come.
    pollfd waiting{.fd = socket, .events = POLLIN, .revents = 0};
    const int count_max = kevring::listener_options().backlog;
    for (int count = 0; count < count_max && ::poll(&waiting, 1, 0) == 1; ++count) {
        kevring::fd client(::accept4(socket, nullptr, nullptr, SOCK_CLOEXEC));
        if (client)
            welcome(kevring::socket(ring_, std::move(client)));
        else if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
            break;  // no descriptor is left; EAGAIN: another process has taken it
    }
    set_timeout(0);
}

void worker::welcome(kevring::socket client) {
    const unsigned connected = shared_.connection_count.load(std::memory_order_relaxed);
    if (connected < options().connection_count_max)
        clients_->spawn(connection::serve(*this, std::move(client)));
    else if (turned_away_ < options().clients_turned_away_max)
        clients_->spawn(turn_away(std::move(client)));
}

kevring::task<void> worker::turn_away(kevring::socket client) {
    ++turned_away_;
    ++counters_.turned_away;
    std::array<char, 1024> buffer;
    short_response what;
    what.status = 503;
    what.lines = "Server: kevring\r\nRetry-After: 1\r\n";
    what.date = date();
    const std::string_view text = write_short_response(buffer, what);
    const auto sent = co_await client.send(text);
    if (sent) co_await client.close();
    --turned_away_;
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
    for (door& each : doors_) each.listener.finish();
}

void worker::report() noexcept {
    worker_report now;
    now.counted = counters_;
    now.loop = ring_.counters();
    now.starved = ring_.buffers().starved_count();
    now.log_lines_dropped = log_.dropped_count();
    now.open_connections = connections_.size();
    now.cached_files = cache_->open_count();
    now.content_bytes = cache_->content_bytes();
    reports_.put(now);
}

void worker::add(connection& one) {
    one.place = connections_.size();
    connections_.push_back(&one);
    ++counters_.connections;
    shared_.connection_count.fetch_add(1, std::memory_order_relaxed);
}

void worker::remove(connection& one) noexcept {
    connections_[one.place] = connections_.back();
    connections_[one.place]->place = one.place;
    connections_.pop_back();
    shared_.connection_count.fetch_sub(1, std::memory_order_relaxed);
}

cached_file* worker::cached(std::string_view raw_path, bool may_be_closed) {
    // A change that the client can know of was made before the request came, and so before the loop
    // took the request from the kernel: in this turn, which may also have looked before that.
    const std::uint64_t moment = ring_.moment();
    if (moment != looked_at_) {
        looked_at_ = moment;
        forget_made();
        watch_->take_changes(*cache_);
    }
    cached_file* const known = cache_->find(raw_path);
    if (known == nullptr) return nullptr;
    const std::time_t now = std::time(nullptr);
    const bool trusted = known->trusted(now);
    known->asked_at = now;
    if (trusted && known->content_is_good && may_be_closed) return known;
    if (!known->file->is_open()) {
        cache_->make_room();
        if (current_->files.reopen(ring_, *known->file)) {
            cache_->opened(raw_path);
            // Content is good until the look that was due, which this may not put off.
            if (!trusted || !known->content_is_good) known->looked(now);
            return known;
        }
        cache_->drop(raw_path);
        return nullptr;
    }
    if (trusted) return known;
    if (current_->files.is_current(*known->file)) {
        known->looked(now);
        return known;
    }
    if (known->file->watched) {
        watch_->take_changes(*cache_);  // it may have happened just now
        if (cache_->find(raw_path) != nullptr) {
            cache_->clear();
            watch_->forget();
        }
    }
    cache_->drop(raw_path);
    return nullptr;
}

void worker::cache(std::string_view raw_path, const std::shared_ptr<served_file>& file) {
    // Looked at once more when it is watched: it may have changed between the two.
    file->watched = watch_->cover(*file) && current_->files.is_current(*file);
    cache_->put(raw_path, {.file = file, .looked_at = std::time(nullptr)});
}

// What is heard of a file that is watched is heard before it is asked for again.
void worker::keep_content(cached_file& known, std::string_view bytes) noexcept {
    if (options().content_bytes_max == 0 || !known.file->watched) return;
    char* const room = cache_->content_room(known, std::time(nullptr));
    if (room == nullptr) return;
    bytes.copy(room, bytes.size());
    known.content_is_good = true;
}

// It may have been waited for, and another file may have come to the path meanwhile.
void worker::keep_content(std::string_view raw_path, const served_file& of,
                          std::string_view bytes) {
    if (options().content_bytes_max == 0) return;
    cached_file* const known = cached(raw_path, true);
    if (known != nullptr && known->file.get() == &of) keep_content(*known, bytes);
}

void worker::remember(cached_file& known, made_response what) {
    if (made_.size() == made_.capacity()) return;
    known.made_at = looked_at_;
    known.made_place = made_.size();
    made_.push_back(std::move(what));
}

void worker::forget_made() noexcept {
    while (!made_.empty()) {
        std::shared_ptr<send_block> block = std::move(made_.back().block);
        made_.pop_back();
        give_block(std::move(block));
    }
}

std::shared_ptr<send_block> worker::take_block() {
    if (free_blocks_.empty()) return std::make_shared_for_overwrite<send_block>();
    auto block = std::move(free_blocks_.back());
    free_blocks_.pop_back();
    return block;
}

// Who holds it last puts it back.
void worker::give_block(std::shared_ptr<send_block> block) noexcept {
    if (block.use_count() == 1 && free_blocks_.size() + made_.size() < free_block_count_max)
        free_blocks_.push_back(std::move(block));
}

}  // namespace httpd
