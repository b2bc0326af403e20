#include "examples/httpd/observe/metrics_text.hpp"

#include "tests/support/catch.hpp"

#include <string>

using namespace httpd;
using namespace std::chrono_literals;

TEST_CASE("a page has families with their samples", "[httpd][metrics_text]") {
    metrics_text page;
    page.counter("httpd_requests_total", "Requests answered.");
    page.sample({{"status", "200"}, {"path", "send"}}, 17);
    page.sample({{"status", "404"}}, 0);
    page.gauge("httpd_connections", "Connections that are open.");
    page.sample(18446744073709551615U);

    CHECK(page.text() ==
          "# HELP httpd_requests_total Requests answered.\n"
          "# TYPE httpd_requests_total counter\n"
          "httpd_requests_total{status=\"200\",path=\"send\"} 17\n"
          "httpd_requests_total{status=\"404\"} 0\n"
          "# HELP httpd_connections Connections that are open.\n"
          "# TYPE httpd_connections gauge\n"
          "httpd_connections 18446744073709551615\n");
}

TEST_CASE("the value of a label may hold anything", "[httpd][metrics_text]") {
    metrics_text page;
    page.gauge("x", "y");
    page.sample({{"a", "\"\\\n"}}, 1);
    CHECK_THAT(page.text(), ContainsSubstring("x{a=\"\\\"\\\\\\n\"} 1\n"));
}

TEST_CASE("each time counts in the bucket of the first bound that it does not exceed",
          "[httpd][metrics_text]") {
    for (std::size_t index = 0; index < latency_histogram::bound_count; ++index) {
        CAPTURE(index);
        latency_histogram values;
        values.add(latency_histogram::bound(index));
        CHECK(values.count(index) == 1);
        values.add(latency_histogram::bound(index) + 1ns);
        CHECK(values.count(index + 1) == 1);
        CHECK(values.sum() == 2 * latency_histogram::bound(index) + 1ns);
    }
    latency_histogram values;
    values.add(0ns);
    values.add(-1s);  // a clock that went back
    CHECK(values.count(0) == 2);
    CHECK(values.sum() == 0ns);
    values.add(1h);
    CHECK(values.count(latency_histogram::bound_count) == 1);
}

TEST_CASE("buckets are cumulative on the page", "[httpd][metrics_text]") {
    latency_histogram one;
    latency_histogram other;
    one.add(16us);
    one.add(17us);
    other.add(20s);
    one += other;
    metrics_text page;
    page.histogram("t_seconds", "Times.", one);

    CHECK_THAT(page.text(), ContainsSubstring("# TYPE t_seconds histogram\n"
                                              "t_seconds_bucket{le=\"1.6e-05\"} 1\n"
                                              "t_seconds_bucket{le=\"3.2e-05\"} 2\n"));
    CHECK_THAT(page.text(), ContainsSubstring("t_seconds_bucket{le=\"+Inf\"} 3\n"
                                              "t_seconds_sum 20.000033\n"
                                              "t_seconds_count 3\n"));
}
