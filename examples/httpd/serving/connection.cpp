#include "connection.hpp"

#include <kevring/runtime/deadline.hpp>
#include <kevring/sendfile/send_file.hpp>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <new>
#include <utility>

#include <sys/socket.h>

namespace httpd {
namespace {

std::string_view as_text(const kevring::borrowed_buffer& buffer) noexcept {
    return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

}  // namespace

// The frame of this coroutine is the memory of an idle connection. Everything else is in frames of
// its own, which exist only while a request is answered.
kevring::task<void> connection::serve(worker& owner, kevring::socket client) {
    auto limit = co_await kevring::within(std::chrono::nanoseconds::max());
    connection self(owner, std::move(client), limit.scope());
    outcome after = outcome::keep;
    try {
        if (self.expects_proxy_header()) after = co_await self.begin_proxied();
        while (after == outcome::keep && !owner.draining()) {
            self.idle_ = true;
            self.extend_timeout(owner.options().idle_time);
            auto received = co_await self.client_.receive();
            if (!received || received->empty()) co_return;
            self.idle_ = false;
            after = co_await self.handle_requests(std::move(*received));
            self.held_.reset();
        }
        if (after != outcome::keep && !limit.expired()) co_await self.finish(after);
    } catch (const std::bad_alloc&) {
        // Only this connection ends; the others continue.
    }
}

kevring::task<void> connection::finish(outcome after) {
    const bool lingers = after != outcome::close_without_lingering;
    if (tls_ != nullptr) return lingers ? tls_->close() : tls_->close_without_lingering();
    return lingers ? client_.close() : client_.close_without_lingering();
}

void connection::drain() noexcept {
    last_ = true;
    if (idle_) scope_.request_stop();
}

// Answers the requests in `first`, and those that follow, until a request ends where the received
// bytes end. The responses to requests that were received together are sent together.
//
// Without a buffer the requests are in `bytes`.
kevring::task<connection::outcome> connection::handle_requests(kevring::borrowed_buffer first,
                                                               std::string bytes) {
    request_batch batch(worker_, std::move(first));
    batch.collected = std::move(bytes);
    batch.input = batch.collected.empty() ? as_text(batch.buffer) : batch.collected;
    while (true) {
        select_configuration();
        if (batch.parser.parse(batch.input) == parse_state::incomplete) {
            const bool complete = co_await read_head(batch);
            if (!complete) co_return outcome::close;
        }
        if (worker_.timing_enabled()) began_ns_ = worker_.loop().now_ns();
        const request_head& head = batch.parser.head();
        if (batch.parser.state() == parse_state::refused) {
            co_await send_error(status_of(batch.parser.error()), head, batch.out);
            co_return outcome::close;
        }
        batch.rest = batch.input.substr(head.size());
        site_ = &configuration_->find_site(head.authority());
        if (head.has_body()) {
            const bool complete = co_await read_body(batch);
            if (!complete) co_return outcome::close;
        }
        if (head.expects() == expectation::unsupported) {
            co_await send_error(417, head, batch.out);
            co_return outcome::close;
        }
        const bool keep = head.keep_alive() && !last_ && !worker_.retiring();
        fast_path_result result = try_fast_path(head, batch.out, keep);
        while (result == fast_path_result::wait) {
            kevring::send_budget budget(worker_.loop());
            co_await budget;
            result = try_fast_path(head, batch.out, keep);
        }
        bool sent = result == fast_path_result::sent;
        if (result == fast_path_result::partially_sent) {
            sent = co_await send_large(*remaining_.file, remaining_.range, batch.out);
            remaining_.owner.reset();
        } else if (result == fast_path_result::unsuitable) {
            sent = co_await respond(head, batch.out, keep);
        }
        record_request(head);
        if (!sent || !keep) {
            co_await flush_last(batch.out);
            co_return sent ? outcome_of_last(batch) : outcome::close;
        }
        if (batch.further.data() != nullptr) {  // the next request is in the body's last buffer
            batch.buffer = std::move(batch.further);
            batch.collected.clear();
        }
        batch.input = batch.rest;
        if (batch.input.empty()) {
            if (tls_ != nullptr) [[unlikely]] {
                const bool flushed = co_await flush(batch.out);
                if (!flushed) co_return outcome::close;
            } else if (!batch.out.empty()) {
                const auto flushed = co_await client_.send(batch.out.bytes());  // without a frame
                if (!flushed) co_return outcome::close;
            }
            co_return last_ ? outcome::close : outcome::keep;
        }
        batch.parser.reset();
    }
}

// Some clients send a line end after a body that no length counts, and others a body that they have
// not announced: a close without lingering would answer these bytes by a reset, which discards the
// end of a response in transit. A client that asked for the end by a plain request sends neither.
connection::outcome connection::outcome_of_last(const request_batch& batch) const noexcept {
    const request_head& head = batch.parser.head();
    const bool is_plain =
        head.method() == request_method::get || head.method() == request_method::head;
    const bool is_silent = !head.keep_alive() && is_plain && !head.has_body() &&
                           batch.rest.empty() && body_bytes_ <= small_body_bytes;
    return is_silent ? outcome::close_without_lingering : outcome::close;
}

// A request is answered by the configuration that is current when its head is complete.
void connection::select_configuration() {
    if (held_ != worker_.current_configuration()) held_ = worker_.current_configuration();
    configuration_ = held_.get();
    site_ = &configuration_->sites.front();
}

void connection::extend_timeout(std::chrono::milliseconds time) noexcept {
    timeout_.set(kevring::add_ns(worker_.loop().cached_now_ns(), time));
}

// A response may take any time as long as the client receives enough of it. A client that stops
// fails the second check at the latest, so that the checks are half of the time apart.
void connection::extend_body_timeout(std::uint64_t byte_count) noexcept {
    const settings& options = configuration_->options;
    const std::uint64_t rate = options.send_bytes_per_second_min;
    const std::chrono::nanoseconds step = options.send_time / 2;
    if (rate == 0) return timeout_.set(kevring::never_ns);
    constexpr std::uint64_t seconds_max = 1'000'000'000;
    const double bytes = std::chrono::duration<double>(step).count() * static_cast<double>(rate);
    timeout_.set_rate(step, std::max<std::uint64_t>(1, static_cast<std::uint64_t>(bytes)),
                      step + std::chrono::seconds(std::min(byte_count / rate, seconds_max)));
}

// A small response is finished before it is sent, so its duration is that of the server alone; the
// duration of a large one includes the client's time.
void connection::record_request(const request_head& head) {
    worker_counters& counters = worker_.counters();
    ++counters.requests[status_];
    counters.body_bytes += body_bytes_;
    if (!worker_.timing_enabled()) [[likely]]
        return;
    const std::chrono::nanoseconds took(worker_.loop().now_ns() - began_ns_);
    counters.durations.add(took);
    if (worker_.log().enabled()) log(head, took);
}

void connection::log(const request_head& head, std::chrono::nanoseconds took) {
    const std::optional<ip_address> client = client_address(head);
    const std::string name = client ? client->text() : "unix:";
    access_record record;
    record.client = name;
    if (login_) record.user = login_->user;
    record.unix_second = std::time(nullptr);
    record.request_line = head.request_line();
    record.status = status_;
    record.body_bytes = body_bytes_;
    record.duration = took;
    record.referer = head.text(known_field::referer);
    record.user_agent = head.text(known_field::user_agent);
    worker_.log().add(record);
    if (login_) login_->user.clear();  // the next request may name none
}

}  // namespace httpd
