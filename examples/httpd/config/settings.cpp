#include "settings.hpp"

#include <kevring/runtime/features.hpp>
#include <kevring/runtime/version.hpp>

#include <CLI/CLI.hpp>

#include <map>
#include <stdexcept>

namespace httpd {
namespace {

// Throws CLI::ParseError, also for what --help and --version ask for.
void parse(CLI::App& app, int argc, char** argv, settings& target, bool& describe) {
    app.set_version_flag("--version", std::string("httpd of kevring ") + kevring::version());
    app.set_config("--config", "", "read options from FILE, one `name = value` a line");
    // A name that is not known is a mistake, and not to be passed over.
    app.allow_config_extras(CLI::config_extras_mode::error);
    app.footer(
        "SIGINT and SIGTERM finish what is being sent and stop; a second one stops at once.\n"
        "SIGHUP reads the options and the file of --config again, and opens the access log anew.\n"
        "SIGUSR2 starts the program anew and hands the listening sockets over to it.");

    const std::map<std::string, access_log_format> formats{
        {"common", access_log_format::common},
        {"combined", access_log_format::combined},
        {"json", access_log_format::json}};
    const std::map<std::string, sandbox_mode> confinements{{"auto", sandbox_mode::automatic},
                                                           {"on", sandbox_mode::enabled},
                                                           {"off", sandbox_mode::disabled}};
    double head_seconds = 10;
    double idle_seconds = 60;
    double drain_seconds = 10;

    app.add_option("--root", target.root, "the folder to serve")->capture_default_str();
    app.add_option("--listen", target.listen,
                   "HOST:PORT, [IPv6]:PORT or unix:PATH; may be given several times")
        ->capture_default_str();
    app.add_option("--user", target.user,
                   "whose rights to keep once the sockets are bound, when started by root");
    app.add_option("--sandbox", target.sandbox,
                   "auto, on or off: the loops can open nothing but what is below the root, for "
                   "reading; auto goes on where the kernel cannot do that")
        ->transform(CLI::CheckedTransformer(confinements, CLI::ignore_case).description(""))
        ->default_str("auto");
    app.add_option("--threads", target.thread_count, "loops; 0: one for each core")
        ->check(CLI::Range(0, 1024))
        ->capture_default_str();
    app.add_flag("--directory-listing", target.directory_listing,
                 "answer a folder without index.html with a page of what is in it");
    app.add_option("--header", target.headers, "'Name: value' for each response; may be repeated");
    app.add_option("--error-page", target.error_pages,
                   "STATUS=FILE instead of the server's own page; may be repeated");
    app.add_flag("--precompressed", target.precompressed,
                 "send FILE.zst, FILE.br or FILE.gz instead of FILE to clients that take them");
    app.add_option("--access-log", target.access_log, "a file, or - for standard output");
    app.add_option("--access-log-format", target.log_format, "common, combined or json")
        ->transform(CLI::CheckedTransformer(formats, CLI::ignore_case).description(""))
        ->default_str("common");
    app.add_option("--metrics", target.metrics,
                   "HOST:PORT or unix:PATH of /-/metrics, in the text format of Prometheus");
    app.add_option("--max-connections", target.connection_count_max,
                   "more are answered with 503; fewer where there are not as many descriptors")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--head-timeout", head_seconds, "seconds for a request's head")
        ->check(CLI::Range(0.01, 86'400.0))
        ->capture_default_str();
    app.add_option("--idle-timeout", idle_seconds, "seconds between two requests")
        ->check(CLI::Range(0.01, 86'400.0))
        ->capture_default_str();
    app.add_option("--drain-timeout", drain_seconds, "seconds to finish when told to stop")
        ->check(CLI::Range(0.0, 86'400.0))
        ->capture_default_str();
    app.add_option("--min-send-rate", target.send_bytes_per_second_min,
                   "bytes a second that a client must take; 0: any")
        ->capture_default_str();
    app.add_option("--max-body", target.body_bytes_max, "bytes of a request's body")
        ->capture_default_str();
    app.add_option("--open-files", target.open_file_count_max, "files that each loop keeps open")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--content-cache", target.content_bytes_max,
                   "bytes of small files that each loop keeps in memory, as in 64M; 0: none")
        ->transform(CLI::AsSizeValue(false).description(""))
        ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 40).description(""))
        ->capture_default_str();
    app.add_flag("--force-copy", target.force_copy,
                 "for files that are written or cut in place: no byte that is written once it has "
                 "been read reaches a client");
    app.add_flag("--describe", describe, "say what this kernel offers and what is used, and end");

    app.parse(argc, argv);
    const auto milliseconds = [](double seconds) {
        return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
    };
    target.listen_given = app.count("--listen") != 0;
    target.head_time = milliseconds(head_seconds);
    target.idle_time = milliseconds(idle_seconds);
    target.drain_time = milliseconds(drain_seconds);
}

}  // namespace

std::optional<int> parse_settings(int argc, char** argv, settings& target) {
    CLI::App app("Serves the files below a folder over HTTP.", "httpd");
    bool describe = false;
    try {
        parse(app, argc, argv, target, describe);
    } catch (const CLI::ParseError& ended) {
        return app.exit(ended);
    }
    if (!describe) return std::nullopt;
    std::fputs(kevring::describe().c_str(), stdout);
    return 0;
}

settings reload_settings(int argc, char** argv) {
    CLI::App app("", "httpd");
    settings read;
    bool describe = false;
    try {
        parse(app, argc, argv, read, describe);
    } catch (const CLI::ParseError& wrong) {
        throw std::runtime_error(wrong.what());
    }
    return read;
}

}  // namespace httpd
