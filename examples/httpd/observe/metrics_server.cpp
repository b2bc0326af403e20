#include "metrics_server.hpp"

#include "examples/httpd/http/http_date.hpp"
#include "examples/httpd/http/request_parser.hpp"
#include "examples/httpd/http/response_head.hpp"

#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <list>
#include <string>
#include <string_view>
#include <utility>

namespace httpd {
namespace {

// Of a whole exchange. Prometheus gives up after 10 s.
constexpr auto exchange_time = std::chrono::seconds(5);
// Connections at a time; a further one ends the oldest, so that idle ones do not delay a scrape.
constexpr std::size_t connection_count_max = 64;

// The clients that are being answered.
struct metrics_clients {
    report_source& reports;
    std::list<kevring::cancel_scope*> scopes;  // the oldest first
};

class counted_client {
public:
    counted_client(metrics_clients& all, kevring::cancel_scope& scope)
        : all_(all), place_(all.scopes.insert(all.scopes.end(), &scope)) {}
    counted_client(const counted_client&) = delete;
    counted_client& operator=(const counted_client&) = delete;
    ~counted_client() { all_.scopes.erase(place_); }

private:
    metrics_clients& all_;
    const std::list<kevring::cancel_scope*>::iterator place_;
};

std::string date_text() {
    std::array<char, http_date_bytes> date{};
    write_http_date(std::time(nullptr), date);
    return {date.data(), date.size()};
}

kevring::task<void> respond(kevring::socket client, metrics_clients& all) {
    auto limit = co_await kevring::within(exchange_time);
    const counted_client counted(all, limit.scope());
    request_parser parser;
    std::string input;
    while (parser.parse(input) == parse_state::incomplete) {
        const auto received = co_await client.receive();
        if (!received || received->empty()) co_return;
        input.append(reinterpret_cast<const char*>(received->data()), received->size());
    }
    std::array<char, 1024> buffer;
    std::string page;
    std::string_view head_text;
    const bool valid = parser.state() != parse_state::refused;
    const request_head& head = parser.head();
    const bool is_metrics = valid && (head.path() == "/metrics" || head.path() == "/-/metrics");
    const bool is_head = valid && head.method() == request_method::head;
    const std::string date = date_text();
    if (is_metrics && (is_head || head.method() == request_method::get)) {
        co_await all.reports.refresh();
        page = metrics_page(all.reports);
        response_head made(buffer, 200);
        made.lines("Server: kevring\r\n").field("Date", date);
        made.field("Content-Type", metrics_media_type).field("Content-Length", page.size());
        head_text = made.connection(false, 1).finish();
        if (is_head) page.clear();
    } else {
        short_response response;
        response.status = !valid ? status_of(parser.error()) : is_metrics ? 405 : 404;
        response.date = date;
        response.lines = response.status == 405 ? "Server: kevring\r\nAllow: GET, HEAD\r\n"
                                                : "Server: kevring\r\n";
        response.head_only = is_head;
        head_text = write_short_response(buffer, response);
    }
    page.insert(0, head_text);
    const auto sent = co_await client.send(page);
    if (sent) co_await client.close();
}

std::uint64_t of_class(const worker_counters& counted, unsigned first) noexcept {
    std::uint64_t sum = 0;
    for (unsigned status = first; status < first + 100; ++status) sum += counted.requests[status];
    return sum;
}

}  // namespace

std::string metrics_page(const report_source& reports) {
    worker_report all;
    for (std::size_t index = 0; index < reports.slot_count(); ++index) {
        const worker_report one = reports.slot(index).last();
        for (std::size_t i = 0; i < one.counted.requests.size(); ++i)
            all.counted.requests[i] += one.counted.requests[i];
        for (std::size_t i = 0; i < one.counted.path_bytes.size(); ++i)
            all.counted.path_bytes[i] += one.counted.path_bytes[i];
        all.counted.connections += one.counted.connections;
        all.counted.rejected += one.counted.rejected;
        all.counted.handshakes += one.counted.handshakes;
        all.counted.handshake_failures += one.counted.handshake_failures;
        all.counted.body_bytes += one.counted.body_bytes;
        all.counted.shared_responses += one.counted.shared_responses;
        all.counted.content_hits += one.counted.content_hits;
        all.counted.durations += one.counted.durations;
        all.loop.enters += one.loop.enters;
        all.loop.requests += one.loop.requests;
        all.loop.completions += one.loop.completions;
        all.loop.iterations += one.loop.iterations;
        all.loop.overflows += one.loop.overflows;
        all.loop.punts += one.loop.punts;
        all.starved += one.starved;
        all.log_lines_dropped += one.log_lines_dropped;
        all.open_connections += one.open_connections;
        all.content_bytes += one.content_bytes;
        all.cached_files += one.cached_files;
    }
    metrics_text page;
    page.gauge("httpd_connections", "Connections that are open.", all.open_connections);
    page.counter("httpd_connections_total", "Connections that were served.",
                 all.counted.connections);
    page.counter("httpd_connections_rejected_total",
                 "Connections rejected with 503 at the connection limit.", all.counted.rejected);
    page.counter("httpd_tls_handshakes_total", "TLS handshakes that were completed.",
                 all.counted.handshakes);
    page.counter("httpd_tls_handshake_failures_total",
                 "TLS handshakes that failed or took longer than --head-timeout.",
                 all.counted.handshake_failures);
    page.counter("httpd_requests_total", "Requests that were answered, by status.");
    for (unsigned status = 100; status < all.counted.requests.size(); ++status) {
        if (all.counted.requests[status] == 0) continue;
        const std::string code = std::to_string(status);
        page.sample({{"status", code}}, all.counted.requests[status]);
    }
    page.counter("httpd_responses_total", "Requests that were answered, by class of status.");
    for (const unsigned first : {200U, 300U, 400U, 500U}) {
        const std::string name = std::to_string(first / 100) + "xx";
        page.sample({{"class", name}}, of_class(all.counted, first));
    }
    page.counter("httpd_body_bytes_total", "Bytes of responses, without their heads.",
                 all.counted.body_bytes);
    page.counter("httpd_file_bytes_total", "Bytes of files, by the path that sent them.");
    for (std::size_t i = 0; i < all.counted.path_bytes.size(); ++i)
        page.sample({{"path", name_of(static_cast<kevring::send_path>(i))}},
                    all.counted.path_bytes[i]);
    page.counter("httpd_shared_responses_total",
                 "Responses served from a serialized response of the same loop iteration.",
                 all.counted.shared_responses);
    page.counter("httpd_content_cache_hits_total", "Responses served from the content cache.",
                 all.counted.content_hits);
    page.gauge("httpd_content_cache_bytes", "Bytes held in the content caches.", all.content_bytes);
    page.gauge("httpd_cached_files", "Files that are open in the caches.", all.cached_files);
    page.counter("httpd_log_lines_dropped_total", "Lines of the access log that were dropped.",
                 all.log_lines_dropped);
    page.counter("kevring_enters_total", "Calls to io_uring_enter.", all.loop.enters);
    page.counter("kevring_requests_total", "Submission queue entries queued.", all.loop.requests);
    page.counter("kevring_completions_total", "Completions reaped.", all.loop.completions);
    page.counter("kevring_loop_iterations_total", "Loop iterations.", all.loop.iterations);
    page.counter("kevring_overflows_total",
                 "Loop iterations that found completions in the kernel's overflow list.",
                 all.loop.overflows);
    page.counter("kevring_punts_total", "Requests that the kernel runs in an io-wq worker.",
                 all.loop.punts);
    page.counter("kevring_buffer_starvation_total", "Receives that found no provided buffer.",
                 all.starved);
    page.histogram("httpd_response_duration_seconds",
                   "From a request's head to the last byte that the kernel accepted.",
                   all.counted.durations);
    return page.text();
}

kevring::task<void> serve_metrics(kevring::listener listener, report_source& reports) {
    kevring::cancel_scope& outer = co_await kevring::current_scope();
    kevring::task_scope scope(*kevring::ring::current(), &outer);
    metrics_clients all{reports, {}};
    while (true) {
        auto accepted = co_await listener.accept();
        if (!accepted) break;
        if (all.scopes.size() >= connection_count_max) {
            const auto oldest =
                std::ranges::find_if_not(all.scopes, &kevring::cancel_scope::stop_requested);
            if (oldest != all.scopes.end()) (*oldest)->request_stop();
        }
        scope.spawn(respond(std::move(*accepted), all));
    }
    scope.request_stop();
    co_await scope.join();
}

}  // namespace httpd
