#include "settings.hpp"

#include "config_file.hpp"
#include "examples/httpd/content/compressor.hpp"
#include "examples/httpd/http/characters.hpp"
#include "option_values.hpp"

#include <kevring/runtime/features.hpp>
#include <kevring/runtime/version.hpp>

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <span>
#include <string_view>

namespace httpd {
namespace {

constexpr double seconds_max = 86'400;

// The target of a value: the settings, the site of the option, and the value with the position that
// it was read from.
struct assignment {
    settings& all;
    site_settings& site;
    option_text value;
};

struct option_row {
    std::string_view name;
    std::string_view value_name;  // empty: a switch
    std::string_view default_text;
    std::string_view help;
    bool of_site;                                       // may be given in a [host] section
    void (*clear)(settings& all, site_settings& site);  // of a list; null: the last value counts
    void (*set)(assignment& to);
};

const option_row option_table[] = {
    {"root", "DIRECTORY", ".", "directory to serve", true, nullptr,
     [](assignment& to) { to.site.root = to.value; }},
    {"listen", "ADDRESS", "127.0.0.1:8080", "HOST:PORT, [IPV6]:PORT or unix:PATH; may be repeated",
     false, [](settings& all, site_settings&) { all.listen.clear(); },
     [](assignment& to) {
         check_address(to.value.text);
         to.all.listen.push_back(to.value);
         to.all.listen_given = true;
     }},
    {"listen-tls", "ADDRESS", "",
     "address for https; may be repeated. Without --listen, http is not served", false,
     [](settings& all, site_settings&) { all.listen_tls.clear(); },
     [](assignment& to) {
         check_address(to.value.text);
         to.all.listen_tls.push_back(to.value);
     }},
    {"tls-cert", "FILE", "", "certificate of --listen-tls, and its intermediate ones, in PEM",
     false, nullptr, [](assignment& to) { to.all.tls_cert = to.value; }},
    {"tls-key", "FILE", "", "key of the certificate, in PEM; default: in the file of --tls-cert",
     false, nullptr, [](assignment& to) { to.all.tls_key = to.value; }},
    {"unix-mode", "MODE", "", "permissions of Unix sockets in octal; default: by the umask", false,
     nullptr, [](assignment& to) { to.all.unix_mode = parse_mode(to.value.text); }},
    {"unix-owner", "USER[:GROUP]", "", "owner of Unix sockets", false, nullptr,
     [](assignment& to) { to.all.unix_owner = to.value; }},
    {"user", "USER", "",
     "name or number of the user to switch to after binding the sockets, if started as root", false,
     nullptr, [](assignment& to) { to.all.user = to.value; }},
    {"sandbox", "MODE", "auto",
     "auto, on or off: restrict the loops to reading files below the root (Landlock); auto "
     "continues without it if the kernel lacks support",
     false, nullptr,
     [](assignment& to) {
         constexpr sandbox_mode modes[] = {sandbox_mode::automatic, sandbox_mode::enabled,
                                           sandbox_mode::disabled};
         to.all.sandbox = modes[parse_word(to.value.text, {"auto", "on", "off"})];
     }},
    {"threads", "COUNT", "0", "number of loops; 0: one per core", false, nullptr,
     [](assignment& to) {
         to.all.thread_count = static_cast<unsigned>(parse_number(to.value.text, 0, 1024));
     }},
    {"directory-listing", "", "false", "list the contents of a directory that has no index file",
     true, nullptr,
     [](assignment& to) { to.site.directory_listing = parse_switch(to.value.text); }},
    {"listing-entries", "COUNT", "100000",
     "entries of a directory that its page shows; further ones are counted", true, nullptr,
     [](assignment& to) {
         to.site.listing_entry_count_max =
             static_cast<unsigned>(parse_number(to.value.text, 1, 1'000'000));
     }},
    {"index", "NAME", "index.html", "file that stands for its directory; may be repeated", true,
     [](settings&, site_settings& site) { site.index_names.clear(); },
     [](assignment& to) {
         const std::string& name = to.value.text;
         if (name.empty() || name == "." || name == ".." || name.find('/') != name.npos)
             throw value_error("it must be the name of a file, without a slash");
         to.site.index_names.push_back(name);
     }},
    {"hidden-files", "", "false", "serve files and directories whose names begin with a dot", true,
     nullptr, [](assignment& to) { to.site.hidden_files = parse_switch(to.value.text); }},
    {"header", "NAME: VALUE", "", "field line for each response; may be repeated", true,
     [](settings&, site_settings& site) { site.headers.clear(); },
     [](assignment& to) { to.site.headers.push_back(to.value); }},
    {"header-for", "PATTERN NAME: VALUE", "",
     "field line for the paths or media types of a pattern; may be repeated", true,
     [](settings&, site_settings& site) { site.path_headers.clear(); },
     [](assignment& to) { to.site.path_headers.push_back(to.value); }},
    {"cache-control", "PATTERN VALUE", "",
     "Cache-Control for the paths or media types of a pattern; may be repeated", true,
     [](settings&, site_settings& site) { site.cache_control.clear(); },
     [](assignment& to) { to.site.cache_control.push_back(to.value); }},
    {"cors", "PATTERN ORIGIN", "",
     "origin (or *) whose scripts may read the paths of a pattern; may be repeated", true,
     [](settings&, site_settings& site) { site.cors.clear(); },
     [](assignment& to) { to.site.cors.push_back(to.value); }},
    {"redirect", "FROM TO [STATUS]", "", "redirect a path, or all below /FROM/*; may be repeated",
     true, [](settings&, site_settings& site) { site.redirects.clear(); },
     [](assignment& to) { to.site.redirects.push_back(to.value); }},
    {"fallback", "FILE", "",
     "file below the root to send for a path that leads to none, for single-page applications",
     true, nullptr,
     [](assignment& to) {
         if (('/' + to.value.text + '/').find("/../") != std::string::npos)
             throw value_error("it must be the path of a file below the root, without ..");
         to.site.fallback = to.value;
     }},
    {"drop-html", "", "false", "send page.html for /page, and redirect /page.html to /page", true,
     nullptr, [](assignment& to) { to.site.drop_html = parse_switch(to.value.text); }},
    {"media-type", "EXTENSION=TYPE", "", "Content-Type of an extension; may be repeated", true,
     [](settings&, site_settings& site) { site.media_types.clear(); },
     [](assignment& to) { to.site.media_types.push_back(to.value); }},
    {"allow", "NETWORK", "", "clients to serve, as in 10.0.0.0/8; may be repeated; default: all",
     true, [](settings&, site_settings& site) { site.allow.clear(); },
     [](assignment& to) { to.site.allow.push_back(to.value); }},
    {"deny", "NETWORK", "", "clients to answer with 403; may be repeated", true,
     [](settings&, site_settings& site) { site.deny.clear(); },
     [](assignment& to) { to.site.deny.push_back(to.value); }},
    {"auth", "PATTERN FILE [REALM]", "",
     "users of FILE, as htpasswd -B writes it, may read the paths of a pattern; may be repeated",
     true, [](settings&, site_settings& site) { site.auth.clear(); },
     [](assignment& to) { to.site.auth.push_back(to.value); }},
    {"error-page", "STATUS=FILE", "", "file to send instead of the error page; may be repeated",
     true, [](settings&, site_settings& site) { site.error_pages.clear(); },
     [](assignment& to) { to.site.error_pages.push_back(to.value); }},
    {"precompressed", "", "false",
     "send FILE.zst, FILE.br or FILE.gz instead of FILE to clients that accept them", true, nullptr,
     [](assignment& to) { to.site.precompressed = parse_switch(to.value.text); }},
    {"compress", "", "false",
     "compress files by zstd or gzip when they are asked for, and keep the result in memory", true,
     nullptr,
     [](assignment& to) {
         to.site.compress = parse_switch(to.value.text);
         if (to.site.compress && compressor_codings() == 0)
             throw value_error("this httpd was built without zlib and zstd");
     }},
    {"compress-type", "TYPE",
     "text/*,application/javascript,application/json,application/xml,application/wasm,"
     "image/svg+xml",
     "media type of files to compress, as in text/*; may be repeated", true,
     [](settings&, site_settings& site) { site.compress_types.clear(); },
     [](assignment& to) {
         const std::string& type = to.value.text;
         if (type.find('/') == type.npos || type.starts_with('/') || type.ends_with('/') ||
             !all_are(type, field_character))
             throw value_error("it must be a media type, as in text/css or text/*");
         to.site.compress_types.push_back(type);
     }},
    {"compress-min", "BYTES", "1024", "smallest file to compress", true, nullptr,
     [](assignment& to) {
         to.site.compress_bytes_min = parse_bytes(to.value.text, std::uint64_t{1} << 30);
     }},
    {"compress-max", "BYTES", "1048576", "largest file to compress", true, nullptr,
     [](assignment& to) {
         to.site.compress_bytes_max = parse_bytes(to.value.text, std::uint64_t{1} << 30);
     }},
    {"compress-cache", "BYTES", "67108864", "memory of all loops for compressed files", false,
     nullptr,
     [](assignment& to) {
         to.all.compressed_bytes_max = parse_bytes(to.value.text, std::uint64_t{1} << 40);
     }},
    {"access-log", "FILE", "", "file for a line per request; - is standard output", false, nullptr,
     [](assignment& to) { to.all.access_log = to.value; }},
    {"access-log-format", "FORMAT", "common", "common, combined or json", false, nullptr,
     [](assignment& to) {
         to.all.log_format = static_cast<access_log_format>(
             parse_word(to.value.text, {"common", "combined", "json"}));
     }},
    {"error-log", "FILE", "", "file for the server's messages, or journal; default: standard error",
     false, nullptr, [](assignment& to) { to.all.error_log = to.value; }},
    {"error-log-level", "LEVEL", "info", "error, warning, notice or info: less severe is dropped",
     false, nullptr,
     [](assignment& to) {
         constexpr severity levels[] = {severity::error, severity::warning, severity::notice,
                                        severity::info};
         to.all.error_log_level =
             levels[parse_word(to.value.text, {"error", "warning", "notice", "info"})];
     }},
    {"metrics", "ADDRESS", "", "HOST:PORT or unix:PATH of /metrics, in the format of Prometheus",
     false, nullptr,
     [](assignment& to) {
         if (!to.value.empty()) check_address(to.value.text);
         to.all.metrics = to.value;
     }},
    {"max-connections", "COUNT", "100000",
     "limit of open connections; further ones are answered with 503", false, nullptr,
     [](assignment& to) {
         to.all.connection_count_max =
             static_cast<unsigned>(parse_number(to.value.text, 1, 10'000'000));
     }},
    {"max-connections-per-address", "COUNT", "0",
     "limit of open connections of one client address; 0: no limit", false, nullptr,
     [](assignment& to) {
         to.all.connections_per_address_max =
             static_cast<unsigned>(parse_number(to.value.text, 0, 10'000'000));
     }},
    {"trusted-proxy", "NETWORK", "",
     "proxies whose X-Forwarded-For names the client; may be repeated; unix: Unix sockets", false,
     [](settings& all, site_settings&) { all.trusted_proxies.clear(); },
     [](assignment& to) { to.all.trusted_proxies.push_back(to.value); }},
    {"proxy-protocol", "NETWORK", "",
     "proxies whose connections begin with a PROXY header, version 1 or 2; may be repeated; unix: "
     "Unix sockets",
     false, [](settings& all, site_settings&) { all.proxy_protocol.clear(); },
     [](assignment& to) { to.all.proxy_protocol.push_back(to.value); }},
    {"head-timeout", "SECONDS", "10", "time for a request's head", false, nullptr,
     [](assignment& to) { to.all.head_time = parse_seconds(to.value.text, 0.01, seconds_max); }},
    {"body-timeout", "SECONDS", "30", "time for a request's body", false, nullptr,
     [](assignment& to) { to.all.body_time = parse_seconds(to.value.text, 0.01, seconds_max); }},
    {"idle-timeout", "SECONDS", "60", "time between two requests", false, nullptr,
     [](assignment& to) { to.all.idle_time = parse_seconds(to.value.text, 0.01, seconds_max); }},
    {"send-timeout", "SECONDS", "60", "time in which a client must receive some of a response",
     false, nullptr,
     [](assignment& to) { to.all.send_time = parse_seconds(to.value.text, 0.01, seconds_max); }},
    {"drain-timeout", "SECONDS", "10", "time for running responses when the server stops", false,
     nullptr,
     [](assignment& to) { to.all.drain_time = parse_seconds(to.value.text, 0, seconds_max); }},
    {"min-send-rate", "BYTES", "1024", "bytes per second that a client must receive; 0: no minimum",
     false, nullptr,
     [](assignment& to) {
         to.all.send_bytes_per_second_min = parse_bytes(to.value.text, std::uint64_t{1} << 40);
     }},
    {"max-body", "BYTES", "1048576", "largest body of a request", false, nullptr,
     [](assignment& to) {
         to.all.body_bytes_max = parse_bytes(to.value.text, std::uint64_t{1} << 40);
     }},
    {"open-files", "COUNT", "2000", "files that each loop keeps open", false, nullptr,
     [](assignment& to) {
         to.all.open_file_count_max =
             static_cast<unsigned>(parse_number(to.value.text, 1, 10'000'000));
     }},
    {"content-cache", "BYTES", "0", "memory of each loop for small files, as in 64M; 0: none",
     false, nullptr,
     [](assignment& to) {
         to.all.content_bytes_max = parse_bytes(to.value.text, std::uint64_t{1} << 40);
     }},
    {"force-copy", "", "false",
     "read file data into memory before sending, so that later changes to a file cannot reach the "
     "client",
     true, nullptr, [](assignment& to) { to.site.force_copy = parse_switch(to.value.text); }},
};

const option_row* find_option(std::string_view name) noexcept {
    const auto found = std::ranges::find(option_table, name, &option_row::name);
    return found == std::end(option_table) ? nullptr : found;
}

// The option that was probably meant; empty: none is similar.
std::string_view similar_option(std::string_view name) {
    std::string_view best;
    std::size_t best_distance = 3;
    for (const option_row& row : option_table) {
        std::vector<std::size_t> previous(row.name.size() + 1);
        for (std::size_t i = 0; i < previous.size(); ++i) previous[i] = i;
        for (std::size_t i = 0; i < name.size(); ++i) {  // Levenshtein
            std::vector<std::size_t> current{i + 1};
            for (std::size_t j = 0; j < row.name.size(); ++j)
                current.push_back(std::min({current[j] + 1, previous[j + 1] + 1,
                                            previous[j] + (name[i] == row.name[j] ? 0 : 1)}));
            previous = std::move(current);
        }
        if (previous.back() >= best_distance) continue;
        best_distance = previous.back();
        best = row.name;
    }
    return best;
}

std::string unknown_option(std::string_view name) {
    std::string text = "there is no such option";
    if (const std::string_view other = similar_option(name); !other.empty())
        text.append("; did you mean ").append(other).append("?");
    return text;
}

void assign(const option_row& row, assignment& to) {
    try {
        row.set(to);
    } catch (const value_error& wrong) {
        to.value.fail(wrong.what());
    }
}

void apply_section(const config_section& section, const std::string& path, settings& all,
                   site_settings& site, bool is_host, const std::set<std::string_view>& given) {
    std::map<std::string_view, std::size_t> lines;
    for (const config_entry& entry : section.entries) {
        const std::string place = path + ':' + std::to_string(entry.line) + ": " + entry.name;
        const option_row* const row = find_option(entry.name);
        if (row == nullptr) throw option_error(place + ": " + unknown_option(entry.name));
        if (is_host && !row->of_site)
            throw option_error(place +
                               ": this option is not for one host; move it before the "
                               "first section");
        if (const auto [first, is_first] = lines.emplace(row->name, entry.line); !is_first)
            throw option_error(place + ": the option is already on line " +
                               std::to_string(first->second));
        if (entry.is_list && row->clear == nullptr)
            throw option_error(place + ": the option has one value, not a list");
        if (!is_host && given.contains(row->name)) continue;  // the command line has precedence
        if (row->clear != nullptr) row->clear(all, site);
        for (const std::string& text : entry.values) {
            assignment to{all, site, {text, place + " ="}};
            assign(*row, to);
        }
    }
}

bool is_host_name(std::string_view name) noexcept {
    if (name.starts_with("*.")) name.remove_prefix(2);
    return !name.empty() && all_are(name, host_character);
}

void apply_file(const std::string& path, settings& all, const std::set<std::string_view>& given,
                std::vector<config_section>& hosts) {
    std::vector<config_section> sections = split_config(read_config_file(path), path);
    apply_section(sections.front(), path, all, all.site, false, given);
    for (config_section& section : std::span(sections).subspan(1)) {
        const std::string place = path + ':' + std::to_string(section.line) + ": ";
        if (section.words.size() < 2 || section.words[0] != "host")
            throw option_error(place + "a section is [host NAME...]");
        hosts.push_back(std::move(section));
    }
}

// A host has the options outside of sections where its own section is silent.
void apply_hosts(const std::string& path, settings& all,
                 const std::vector<config_section>& sections) {
    std::set<std::string> known;
    for (const config_section& section : sections) {
        host_settings& host = all.hosts.emplace_back();
        host.place =
            path + ':' + std::to_string(section.line) + ": [host " + section.words[1] + "]";
        host.site = all.site;
        for (const std::string& word : std::span(section.words).subspan(1)) {
            std::string name = word;
            std::ranges::transform(name, name.begin(), lower_case);
            if (name.ends_with('.')) name.pop_back();
            if (!is_host_name(name))
                throw option_error(host.place + ": '" + word +
                                   "' is no host name; write example.org or *.example.org");
            if (!known.insert(name).second)
                throw option_error(host.place + ": " + word + " has a section already");
            host.names.push_back(std::move(name));
        }
        apply_section(section, path, all, host.site, true, {});
    }
}

void print_help() {
    std::string text =
        "Serves the files below a directory over HTTP.\n"
        "Usage: httpd [OPTIONS] [DIRECTORY]\n\n"
        "Options:\n";
    const auto add = [&text](std::string head, std::string_view help) {
        head.insert(0, "  ");
        if (head.size() < 33)
            head.resize(33, ' ');
        else
            head += "  ";
        text.append(head).append(help).append("\n");
    };
    add("-h,--help", "print this help message and exit");
    add("--version", "print the version and exit");
    add("--describe", "print kernel features and the paths in use, then exit");
    add("--config FILE", "read options from FILE, one `name = value` a line");
    add("--check-config", "check the options and the file of --config, then exit");
    add("-p,--port PORT", "listen at this port of 127.0.0.1");
    for (const option_row& row : option_table) {
        std::string head = "--" + std::string(row.name);
        if (!row.value_name.empty()) head.append(" ").append(row.value_name);
        if (!row.value_name.empty() && !row.default_text.empty())
            head.append("=").append(row.default_text);
        add(head, row.help);
    }
    text +=
        "\nSIGINT and SIGTERM finish running responses and stop; a second one stops immediately.\n"
        "SIGHUP reads the options and the file of --config again and reopens the logs.\n"
        "SIGUSR2 starts a new process of the program, which takes over the listening sockets.\n";
    std::fputs(text.c_str(), stdout);
}

// The arguments, as option names and values. A switch may have a value after '=' only.
class argument_reader {
public:
    argument_reader(int argc, char** argv) : arguments_(argv + 1, argv + std::max(1, argc)) {}

    bool next() {
        if (index_ == arguments_.size()) return false;
        std::string_view text = arguments_[index_++];
        name_.clear();
        value_.reset();
        if (only_positional_ || text == "-" || !text.starts_with('-')) {
            value_ = text;
            return true;
        }
        if (text == "--") {
            only_positional_ = true;
            return next();
        }
        if (text.starts_with("--")) {
            const std::size_t equals = text.find('=');
            name_ = text.substr(2, equals == text.npos ? text.npos : equals - 2);
            if (equals != text.npos) value_ = text.substr(equals + 1);
            if (name_.empty()) throw option_error(std::string(text) + ": an option has a name");
            return true;
        }
        name_ = text.substr(0, 2);  // "-p8000"
        if (text.size() > 2) value_ = text.substr(text[2] == '=' ? 3 : 2);
        return true;
    }
    bool is_positional() const noexcept { return name_.empty(); }
    const std::string& name() const noexcept { return name_; }
    const std::optional<std::string>& value() const noexcept { return value_; }
    // The value that follows, which may be the next argument.
    std::string take_value(const std::string& option) {
        if (value_) return *value_;
        if (index_ == arguments_.size()) throw option_error(option + ": the value is missing");
        return arguments_[index_++];
    }

private:
    std::vector<std::string> arguments_;
    std::size_t index_ = 0;
    bool only_positional_ = false;
    std::string name_;
    std::optional<std::string> value_;
};

struct command {
    bool help = false;
    bool version = false;
    bool describe = false;
    std::string config;
};

void set_port(const option_text& port, settings& all) {
    try {
        parse_number(port.text, 0, 65'535);
    } catch (const value_error& wrong) {
        port.fail(wrong.what());
    }
    all.listen.assign(1, {"127.0.0.1:" + port.text, port.place});
    all.listen_given = true;
}

command parse(int argc, char** argv, settings& all) {
    command asked;
    std::vector<std::pair<const option_row*, option_text>> assignments;
    std::set<std::string_view> given;
    std::optional<option_text> root;
    std::optional<option_text> port;
    argument_reader arguments(argc, argv);
    while (arguments.next()) {
        if (arguments.is_positional()) {
            if (root)
                throw option_error(*arguments.value() + ": one directory is served, and " +
                                   root->text + " is given already");
            root = option_text{*arguments.value(), "DIRECTORY"};
            continue;
        }
        const std::string& name = arguments.name();
        const auto flag = [&](bool& target) {
            if (arguments.value()) throw option_error("--" + name + ": the option has no value");
            target = true;
        };
        if (name == "-h" || name == "help") {
            flag(asked.help);
        } else if (name == "version") {
            flag(asked.version);
        } else if (name == "describe") {
            flag(asked.describe);
        } else if (name == "check-config") {
            flag(all.check_config);
        } else if (name == "config") {
            asked.config = arguments.take_value("--config");
            if (asked.config.empty()) throw option_error("--config: the value is missing");
        } else if (name == "-p" || name == "port") {
            const std::string option = name == "-p" ? "-p" : "--port";
            port = option_text{arguments.take_value(option), option};
        } else if (const option_row* const row = find_option(name)) {
            const std::string option = "--" + name;
            std::string value = row->value_name.empty() ? arguments.value().value_or("true")
                                                        : arguments.take_value(option);
            assignments.emplace_back(row, option_text{std::move(value), option});
            given.insert(row->name);
        } else {
            const std::string option = name.starts_with('-') ? name : "--" + name;
            const std::string reason = unknown_option(name);
            throw option_error(option + ": " + reason +
                               (reason.ends_with('?') ? " See --help." : "; see --help"));
        }
    }
    if (asked.help || asked.version || asked.describe) return asked;
    if (root && given.contains("root"))
        throw option_error("DIRECTORY " + root->text + ": --root is given as well; give one");
    if (port && given.contains("listen"))
        throw option_error(port->label() + ": --listen is given as well; give its address a port");
    if (root) given.insert("root");
    if (port) given.insert("listen");

    std::vector<config_section> hosts;
    if (!asked.config.empty()) apply_file(asked.config, all, given, hosts);
    std::set<std::string_view> cleared;
    for (auto& [row, value] : assignments) {
        if (row->clear != nullptr && cleared.insert(row->name).second) row->clear(all, all.site);
        assignment to{all, all.site, value};
        assign(*row, to);
    }
    if (root) all.site.root = *root;
    if (port) set_port(*port, all);
    if (!all.listen_tls.empty() && !all.listen_given) all.listen.clear();
    apply_hosts(asked.config, all, hosts);
    return asked;
}

}  // namespace

std::optional<int> parse_settings(int argc, char** argv, settings& target) {
    const command asked = parse(argc, argv, target);
    if (asked.help) {
        print_help();
    } else if (asked.version) {
        std::printf("httpd of kevring %s\n", kevring::version());
    } else if (asked.describe) {
        std::fputs(kevring::describe().c_str(), stdout);
    } else {
        return std::nullopt;
    }
    return 0;
}

settings reload_settings(int argc, char** argv) {
    settings read;
    parse(argc, argv, read);
    return read;
}

}  // namespace httpd
