#include "worker.hpp"

#include "connection.hpp"
#include "examples/httpd/http/response_head.hpp"
#include "examples/httpd/observe/error_log.hpp"

#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/sleep.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <string>
#include <utility>

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

namespace httpd {
namespace {

// Blocks that are kept for the next responses; further ones are freed after a burst.
constexpr std::size_t free_block_count_max = 64;
constexpr std::size_t shared_count_max = free_block_count_max;  // each holds one

// The address that counts for the limit of connections: of IPv6 the network that one host usually
// has.
ip_address counted_part(const ip_address& address) {
    constexpr unsigned ipv6_network_bits = 64;
    return address.is_ipv4() ? address : address.prefix(ipv6_network_bits);
}

// Ends the connections that have not finished within the drain time. The sleep is that time; it ends
// early when the last connection does, because the scope is stopped then.
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
    for (opened_listener& each : begin.opened) listeners_.emplace_back(loop_, std::move(each));
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
    accepting_ = nullptr;  // no client is accepted from here on

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
    // first: a loop without a listener would end
    for (opened_listener& each : to.opened) {
        listeners_.emplace_back(loop_, std::move(each));
        accepting_->spawn(accept_from(listeners_.back()));
    }
    for (const unsigned number : to.closed) {
        const auto found = std::ranges::find(listeners_, number, &worker_listener::number);
        if (found == listeners_.end()) continue;
        found->closing = true;
        found->listener.stop_accepting();
    }
}

void worker::set_configuration(std::shared_ptr<const configuration> next) {
    // Held through a count that no other loop touches, because each request increments it.
    const auto own = std::make_shared<std::shared_ptr<const configuration>>(std::move(next));
    clear_shared();
    caches_.clear();
    site_caches_.clear();  // first: the cached files belong to the previous configuration
    current_ = std::shared_ptr<const configuration>(own, own->get());
    const std::size_t site_count = current_->sites.size();
    for (const site& each : current_->sites) {
        site_caches_.emplace_back(
            each, std::max<std::size_t>(1, options().open_file_count_max / site_count),
            options().content_bytes_max / site_count);
        caches_.push_back(&site_caches_.back());
    }
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
        on_accept(std::move(*accepted), from.encrypted);
    }
    if (from.closing || retiring_) accept_backlog(from);
    listeners_.remove_if([&](const worker_listener& each) { return &each == &from; });
}

// The kernel resets the connections in a socket's backlog when the last process closes it. And a
// new connection wakes one process only (a wait for connections is exclusive): if that is this one,
// just when it ceased to accept, the client would wait until another one connects.
void worker::accept_backlog(worker_listener& from) {
    const int socket = from.listener.native().number();
    // O_NONBLOCK would apply to each process that shares the socket, and end its requests; a
    // receive timeout is seen only by calls that block in the kernel, and no other thread makes
    // one.
    const auto set_timeout = [&](suseconds_t microseconds) {
        const timeval time{.tv_sec = 0, .tv_usec = microseconds};
        return ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0;
    };
    const kevring::thread_lock alone(
        shared_.backlog_mutex);  // another loop may have the same socket
    if (!set_timeout(1)) return;
    // Only the connections that are queued now: later ones wake the other processes.
    pollfd waiting{.fd = socket, .events = POLLIN, .revents = 0};
    const int count_max = kevring::listener_options().backlog;
    for (int count = 0; count < count_max && ::poll(&waiting, 1, 0) == 1; ++count) {
        kevring::fd client(::accept4(socket, nullptr, nullptr, SOCK_CLOEXEC));
        if (client)
            on_accept(kevring::socket(loop_, std::move(client)), from.encrypted);
        else if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
            break;  // no descriptor is left; EAGAIN: another process has accepted it
    }
    set_timeout(0);
}

kevring::task<void> worker::serve_client(kevring::socket client, bool encrypted) {
    return encrypted ? connection::serve_tls(*this, std::move(client))
                     : connection::serve(*this, std::move(client));
}

void worker::on_accept(kevring::socket client, bool encrypted) {
    const unsigned connected = shared_.connection_count.load(std::memory_order_relaxed);
    const bool fits = connected < options().connection_count_max;
    if (fits && options().connections_per_address_max == 0)
        return clients_->spawn(serve_client(std::move(client), encrypted));
    const auto address = fits ? counted_address(client) : std::nullopt;
    if (fits && !address) return clients_->spawn(serve_client(std::move(client), encrypted));
    if (fits && shared_.addresses.add(*address, options().connections_per_address_max))
        return clients_->spawn(serve_counted(std::move(client), encrypted, *address));
    if (encrypted)
        ++counters_.rejected;  // closed: a handshake would cost more than the connection
    else if (rejecting_count_ < options().clients_rejecting_max)
        clients_->spawn(reject(std::move(client)));
}

// Nothing for a Unix socket and for a named proxy, which has the connections of many clients.
std::optional<ip_address> worker::counted_address(const kevring::socket& client) const {
    const auto address = address_of(client);
    if (!address || current_->trusted_proxies.contains(address) ||
        current_->proxy_protocol.contains(address))
        return std::nullopt;
    return counted_part(*address);
}

bool worker::count_address(const ip_address& address,
                           std::optional<address_counts::holder>& counted) {
    const unsigned limit = options().connections_per_address_max;
    if (limit == 0) return true;
    const ip_address part = counted_part(address);
    if (!shared_.addresses.add(part, limit)) return false;
    counted.emplace(shared_.addresses, part);
    return true;
}

kevring::task<void> worker::serve_counted(kevring::socket client, bool encrypted,
                                          ip_address address) {
    const address_counts::holder counted(shared_.addresses, address);
    co_await serve_client(std::move(client), encrypted);
}

kevring::task<void> worker::reject(kevring::socket client) {
    ++rejecting_count_;
    ++counters_.rejected;
    const custom_responses& custom = current_->sites.front().responses;
    const std::string lines = current_->sites.front().common_lines() + "Retry-After: 1\r\n";
    short_response response;
    response.status = 503;
    response.lines = lines;
    response.date = date();
    response.body = custom.page(503);
    std::string buffer(short_response_bytes + lines.size() + response.body.size(), '\0');
    const std::string_view text = write_short_response(buffer, response);
    auto limit = co_await kevring::within(options().idle_time);
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
    // Connections that the kernel has accepted for this process are served by it.
    for (worker_listener& each : listeners_) each.listener.stop_accepting();
}

void worker::record_handshake_failure(const std::optional<ip_address>& client,
                                      const std::error_code& failure) {
    ++counters_.handshake_failures;
    const std::time_t now = std::time(nullptr);
    if (now == handshake_failure_second_) {
        ++unreported_handshake_failures_;
        return;
    }
    handshake_failure_second_ = now;
    std::string text = "TLS handshake of " + (client ? client->text() : "a Unix socket") +
                       " failed: " + failure.message();
    if (const auto count = std::exchange(unreported_handshake_failures_, 0); count > 0)
        text += "; " + std::to_string(count) + " failures before it were not reported";
    log_message(severity::info, text);
}

void worker::report() noexcept {
    worker_report now;
    now.counted = counters_;
    now.loop = loop_.counters();
    now.starved = loop_.service<kevring::buffer_pool>().starved_count();
    now.log_lines_dropped = log_.dropped_count();
    now.open_connections = connections_.size();
    for (const site_cache& each : site_caches_) {
        now.cached_files += each.files.open_count();
        now.content_bytes += each.files.content_bytes();
    }
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

cached_file* worker::cached(std::size_t site_index, std::string_view raw_path, bool may_be_closed) {
    // A change that the client can know of was made before it sent the request, and so before the
    // loop received it: applying changes once per generation is enough.
    const std::uint64_t generation = loop_.generation();
    if (generation != changes_generation_) {
        changes_generation_ = generation;
        clear_shared();
    }
    site_cache& own = *caches_[site_index];
    if (generation != own.generation) {
        own.generation = generation;
        own.watch.apply_changes(own.files);
    }
    cached_file* const known = own.files.find(raw_path);
    if (known == nullptr) return nullptr;
    const std::time_t now = std::time(nullptr);
    // Field lines that have expired are built again, by a lookup.
    const bool expired = known->file->is_expired(now);
    const bool fresh = !expired && known->is_fresh(now);
    known->used_at = now;
    if (fresh && known->content_valid && may_be_closed) return known;
    const document_root& root = current_->sites[site_index].files;
    if (!known->file->is_open()) {
        own.files.evict_one();
        if (!expired && root.reopen(loop_, *known->file)) {
            own.files.mark_open(raw_path);
            // Content stays valid until the check that was due, which this must not postpone.
            if (!fresh || !known->content_valid) known->mark_checked(now);
            return known;
        }
        own.files.erase(raw_path);
        return nullptr;
    }
    if (fresh) return known;
    if (root.is_current(*known->file)) {
        if (!expired) {
            known->mark_checked(now);
            return known;
        }
    } else if (known->file->watched) {
        own.watch.apply_changes(own.files);  // the change may have been made just now
        if (own.files.find(raw_path) != nullptr) {
            own.files.clear();
            own.watch.unwatch_all();
        }
    }
    own.files.erase(raw_path);
    return nullptr;
}

void worker::cache(std::size_t site_index, std::string_view raw_path,
                   const std::shared_ptr<served_file>& file) {
    site_cache& own = *caches_[site_index];
    // Checked again once it is watched: it may have changed between the two.
    file->watched = own.watch.watch(*file) && current_->sites[site_index].files.is_current(*file);
    own.files.insert(raw_path, {.file = file, .checked_at = std::time(nullptr)});
}

// A change of a watched file is applied before its next use.
void worker::keep_content(std::size_t site_index, cached_file& known,
                          std::string_view bytes) noexcept {
    if (options().content_bytes_max == 0 || !known.file->watched) return;
    char* const room = caches_[site_index]->files.allocate_content(known, std::time(nullptr));
    if (room == nullptr) return;
    bytes.copy(room, bytes.size());
    known.content_valid = true;
}

// The loop may have run in the meantime, and another file may have the path now.
void worker::keep_content(std::size_t site_index, std::string_view raw_path,
                          const served_file& file, std::string_view bytes) {
    if (options().content_bytes_max == 0) return;
    cached_file* const known = cached(site_index, raw_path, true);
    if (known != nullptr && known->file.get() == &file) keep_content(site_index, *known, bytes);
}

void worker::publish_shared(cached_file& known, shared_response response) {
    if (shared_responses_.size() == shared_responses_.capacity()) return;
    known.shared_generation = changes_generation_;
    known.shared_index = shared_responses_.size();
    shared_responses_.push_back(std::move(response));
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

// The last holder returns the block.
void worker::release_block(std::shared_ptr<send_block> block) noexcept {
    if (block.use_count() == 1 &&
        free_blocks_.size() + shared_responses_.size() < free_block_count_max)
        free_blocks_.push_back(std::move(block));
}

}  // namespace httpd
