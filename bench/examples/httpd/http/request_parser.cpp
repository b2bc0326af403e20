// CPU time of parsing a request head.
//
// Baseline: Debian's http-parser, formerly of Node, on the same bytes in the same process; the figure
// to quote is httpd over http_parser. Its callbacks are empty except for those that a server needs:
// the times of httpd include method, path, host and framing as values, those of http-parser the
// positions of the pieces.
#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#if __has_include(<http_parser.h>)
#include <http_parser.h>
#endif

#include "examples/httpd/http/request_parser.hpp"
#include "examples/httpd/http/target.hpp"

namespace {

struct named_head {
    const char* name;
    std::string_view text;
};

constexpr std::array heads{
    named_head{"wrk", "GET /1k.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"},
    named_head{"curl",
               "GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/7.88.1\r\n"
               "Accept: */*\r\n\r\n"},
    named_head{
        "browser",
        "GET /assets/app.css?v=12 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"
        "Connection: keep-alive\r\nsec-ch-ua: \"Chromium\";v=\"128\", \"Other\";v=\"24\"\r\n"
        "sec-ch-ua-mobile: ?0\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) "
        "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36\r\n"
        "sec-ch-ua-platform: \"Linux\"\r\nAccept: text/css,*/*;q=0.1\r\n"
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\n"
        "Sec-Fetch-Dest: style\r\nReferer: http://127.0.0.1:8080/\r\n"
        "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n\r\n"},
};

void set_counters(benchmark::State& state, std::string_view text) {
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
    state.counters["head_bytes"] = static_cast<double>(text.size());
}

void httpd_parser(benchmark::State& state, std::string_view text) {
    httpd::request_parser parser;
    for (auto _ : state) {
        parser.reset();
        benchmark::DoNotOptimize(text);
        benchmark::DoNotOptimize(parser.parse(text));
        benchmark::DoNotOptimize(parser.head());
    }
    if (parser.state() != httpd::parse_state::complete) state.SkipWithError("refused");
    set_counters(state, text);
}

// The worst that a peer can do: the head comes byte by byte.
void httpd_parser_bytewise(benchmark::State& state, std::string_view text) {
    httpd::request_parser parser;
    for (auto _ : state) {
        parser.reset();
        for (std::size_t size = 1; size <= text.size(); ++size) {
            benchmark::DoNotOptimize(parser.parse(text.substr(0, size)));
        }
    }
    set_counters(state, text);
}

void httpd_target(benchmark::State& state, std::string_view path) {
    std::array<char, 256> name{};
    for (auto _ : state) {
        benchmark::DoNotOptimize(path);
        benchmark::DoNotOptimize(httpd::parse_target(path, name));
    }
}

#if __has_include(<http_parser.h>)
struct reported {
    std::size_t path_bytes = 0;
    std::size_t field_bytes = 0;
    bool complete = false;
};

void baseline_parser(benchmark::State& state, std::string_view text) {
    http_parser_settings settings;
    http_parser_settings_init(&settings);
    settings.on_url = [](http_parser* parser, const char*, std::size_t size) {
        static_cast<reported*>(parser->data)->path_bytes += size;
        return 0;
    };
    settings.on_header_field = [](http_parser* parser, const char*, std::size_t size) {
        static_cast<reported*>(parser->data)->field_bytes += size;
        return 0;
    };
    settings.on_header_value = settings.on_header_field;
    settings.on_headers_complete = [](http_parser* parser) {
        static_cast<reported*>(parser->data)->complete = true;
        return 0;
    };
    reported what;
    for (auto _ : state) {
        http_parser parser;
        http_parser_init(&parser, HTTP_REQUEST);
        parser.data = &what;
        benchmark::DoNotOptimize(text);
        benchmark::DoNotOptimize(http_parser_execute(&parser, &settings, text.data(), text.size()));
        benchmark::DoNotOptimize(what);
    }
    if (!what.complete) state.SkipWithError("refused");
    set_counters(state, text);
}
#endif

}  // namespace

int main(int count, char** arguments) {
    for (const named_head& head : heads) {
        const std::string name = head.name;
        benchmark::RegisterBenchmark(("httpd/" + name).c_str(), httpd_parser, head.text);
#if __has_include(<http_parser.h>)
        benchmark::RegisterBenchmark(("http_parser/" + name).c_str(), baseline_parser, head.text);
#endif
        benchmark::RegisterBenchmark(("httpd_bytewise/" + name).c_str(), httpd_parser_bytewise,
                                     head.text);
    }
    benchmark::RegisterBenchmark("httpd_target/short", httpd_target, "/1k.html");
    benchmark::RegisterBenchmark("httpd_target/encoded", httpd_target,
                                 "/a%20folder/./another/../file%20of%20mine.html");
    benchmark::Initialize(&count, arguments);
    if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 1;
    benchmark::RunSpecifiedBenchmarks();
}
