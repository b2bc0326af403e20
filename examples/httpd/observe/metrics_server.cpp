#include "metrics_server.hpp"

#include "examples/httpd/http/request_parser.hpp"
#include "examples/httpd/http/response_head.hpp"

#include <kevring/runtime/deadline.hpp>

#include <array>
#include <chrono>
#include <string_view>
#include <utility>

namespace httpd {
namespace {

// Of a whole exchange: they come one after another.
constexpr auto exchange_time = std::chrono::seconds(5);

kevring::task<void> answer(kevring::socket client, report_source& from) {
    auto limit = co_await kevring::within(exchange_time);
    request_parser parser;
    std::string input;
    while (parser.parse(input) == parse_state::incomplete) {
        const auto got = co_await client.receive();
        if (!got || got->empty()) co_return;
        input.append(reinterpret_cast<const char*>(got->data()), got->size());
        parser.reset();
    }
    std::array<char, 1024> head;
    std::string page;
    std::string_view head_text;
    const bool good = parser.state() != parse_state::refused;
    const bool asks = good && parser.head().method() == request_method::get &&
                      parser.head().path() == "/-/metrics";
    if (asks) {
        co_await from.refresh();
        page = metrics_page(from);
        response_head made(head, 200);
        made.field("Content-Type", metrics_media_type).field("Content-Length", page.size());
        head_text = made.connection(false, 1).finish();
    } else {
        short_response what;
        what.status = good ? 404 : 400;
        head_text = write_short_response(head, what);
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

std::string metrics_page(const report_source& from) {
    worker_report all;
    for (std::size_t index = 0; index < from.slot_count(); ++index) {
        const worker_report one = from.slot(index).last();
        for (std::size_t i = 0; i < one.counted.requests.size(); ++i)
            all.counted.requests[i] += one.counted.requests[i];
        for (std::size_t i = 0; i < one.counted.path_bytes.size(); ++i)
            all.counted.path_bytes[i] += one.counted.path_bytes[i];
        all.counted.connections += one.counted.connections;
        all.counted.rejected += one.counted.rejected;
        all.counted.body_bytes += one.counted.body_bytes;
        all.counted.shared_responses += one.counted.shared_responses;
        all.counted.content_hits += one.counted.content_hits;
        all.counted.durations += one.counted.durations;
        all.loop.enters += one.loop.enters;
        all.loop.requests += one.loop.requests;
        all.loop.completions += one.loop.completions;
        all.loop.turns += one.loop.turns;
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
    page.counter("httpd_connections_rejected_total", "Connections beyond the limit.",
                 all.counted.rejected);
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
    page.counter("httpd_file_bytes_total", "Bytes of files, by the path that they took.");
    for (std::size_t i = 0; i < all.counted.path_bytes.size(); ++i)
        page.sample({{"path", name_of(static_cast<kevring::send_path>(i))}},
                    all.counted.path_bytes[i]);
    page.counter("httpd_shared_responses_total",
                 "Small files that were read once for several requests that had come together.",
                 all.counted.shared_responses);
    page.counter("httpd_content_cache_hits_total",
                 "Small files that were not read: --content-cache.", all.counted.content_hits);
    page.gauge("httpd_content_cache_bytes", "Content of files that the loops keep in memory.",
               all.content_bytes);
    page.gauge("httpd_cached_files", "Files that the loops' caches keep open.", all.cached_files);
    page.counter("httpd_log_lines_dropped_total", "Lines that the access log could not take.",
                 all.log_lines_dropped);
    page.counter("kevring_enters_total", "Calls of io_uring_enter.", all.loop.enters);
    page.counter("kevring_requests_total", "Requests to the kernel.", all.loop.requests);
    page.counter("kevring_completions_total", "Answers of the kernel.", all.loop.completions);
    page.counter("kevring_loop_iterations_total", "Turns of the loops.", all.loop.turns);
    page.counter("kevring_overflows_total", "Turns with answers that had waited in the kernel.",
                 all.loop.overflows);
    page.counter("kevring_punts_total",
                 "Requests that the kernel gave to a worker thread whatever they met.",
                 all.loop.punts);
    page.counter("kevring_buffer_starvation_total", "Receives that found no buffer.", all.starved);
    page.histogram("httpd_response_duration_seconds",
                   "From a request's head to the last byte that the kernel took.",
                   all.counted.durations);
    return page.text();
}

kevring::task<void> serve_metrics(kevring::listener listener, report_source& from) {
    while (true) {
        auto accepted = co_await listener.accept();
        if (!accepted) co_return;
        co_await answer(std::move(*accepted), from);
    }
}

}  // namespace httpd
