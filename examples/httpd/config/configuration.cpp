#include "configuration.hpp"

#include "examples/httpd/content/compressor.hpp"
#include "examples/httpd/http/characters.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <system_error>
#include <utility>

#include <sys/stat.h>
#include <unistd.h>

namespace httpd {
namespace {

std::shared_ptr<header_rules> rules_of(const site_settings& options) {
    auto rules = std::make_shared<header_rules>();
    for (const option_text& each : options.path_headers) rules->add_field(each);
    for (const option_text& each : options.cache_control) rules->add_cache_control(each);
    for (const option_text& each : options.cors) rules->add_cors(each);
    return rules;
}

std::vector<redirect_rule> redirects_of(const site_settings& options) {
    std::vector<redirect_rule> rules;
    for (const option_text& each : options.redirects) rules.push_back(parse_redirect(each));
    return rules;
}

std::vector<ip_network> networks_of(const std::vector<option_text>& options) {
    std::vector<ip_network> networks;
    for (const option_text& each : options) {
        if (each.text == "all") {
            networks.push_back({ip_address(), 0});
            continue;
        }
        const auto network = ip_network::parse(each.text);
        if (!network)
            each.fail("it must be an address or a network, as in 10.0.0.0/8 or 2001:db8::/32");
        networks.push_back(*network);
    }
    return networks;
}

proxy_networks proxies_of(std::vector<option_text> options) {
    proxy_networks made;
    made.unix_sockets =
        std::erase_if(options, [](const option_text& each) { return each.text == "unix"; }) != 0;
    made.networks = networks_of(options);
    return made;
}

std::pair<std::string, std::string> media_type_of(const option_text& option) {
    const std::size_t equals = option.text.find('=');
    std::string extension = option.text.substr(0, equals);
    if (extension.starts_with('.')) extension.erase(0, 1);
    const std::string type = equals == std::string::npos ? "" : option.text.substr(equals + 1);
    const std::size_t slash = type.find('/');
    if (extension.empty() || slash == std::string::npos || slash == 0 || slash + 1 == type.size() ||
        !all_are(type, field_character) || extension.find_first_of("/.") != std::string::npos)
        option.fail("it must be EXTENSION=TYPE, as in md=text/markdown; charset=utf-8");
    return {extension, type};
}

root_options root_options_of(const site_settings& options,
                             const std::shared_ptr<header_rules>& rules) {
    root_options chosen;
    if (!rules->empty())
        chosen.lines_for = [rules](std::string_view name, std::string_view media_type) {
            return rules->lines_for(name, media_type);
        };
    for (const option_text& each : options.media_types)
        chosen.media_types.push_back(media_type_of(each));
    chosen.precompressed = options.precompressed;
    if (options.compress) {
        chosen.compressor_codings = compressor_codings();
        for (const std::string& each : options.compress_types)
            chosen.compress_types.emplace_back(each);
        chosen.compress_bytes_min = std::max<std::uint64_t>(1, options.compress_bytes_min);
        chosen.compress_bytes_max = options.compress_bytes_max;
    }
    chosen.directory_listing = options.directory_listing;
    chosen.hidden_files = options.hidden_files;
    chosen.index_names = options.index_names;
    return chosen;
}

document_root open_root(const site_settings& options,
                        const std::shared_ptr<header_rules>& rules) try {
    return document_root(options.root.text, root_options_of(options, rules));
} catch (const std::system_error& failure) {
    options.root.fail(failure.code().message() +
                      (failure.code() == std::errc::permission_denied
                           ? "; the user that the server runs as must be able to enter it"
                           : ""));
}

std::shared_ptr<const log_target> open_access_log(const settings& options) try {
    return open_log(options.access_log.text, options.log_format);
} catch (const std::system_error& failure) {
    options.access_log.fail(failure.code().message());
}

std::shared_ptr<const error_log_target> open_errors(const settings& options) try {
    return open_error_log(options.error_log.text, options.error_log_level);
} catch (const std::system_error& failure) {
    options.error_log.fail(failure.code().message());
}

// The TLS library opens the file, and would wait for the writer of a FIFO.
void check_is_file(const option_text& file) {
    struct stat status{};
    if (file.empty() || ::stat(file.text.c_str(), &status) != 0) return;  // reported by its use
    if (S_ISDIR(status.st_mode)) file.fail("this is a directory; name a file");
    if (!S_ISREG(status.st_mode)) file.fail("this is not a regular file");
}

std::optional<kevring::tls_context> tls_of(const settings& options, const configuration* previous) {
    const option_text& certificate = options.tls_cert;
    if (options.listen_tls.empty()) {
        for (const option_text& each : {certificate, options.tls_key})
            if (!each.empty()) each.fail("no address serves https; give one by --listen-tls");
        return std::nullopt;
    }
    if (certificate.empty())
        options.listen_tls.front().fail("a certificate is needed; give its file by --tls-cert");
    check_is_file(certificate);
    check_is_file(options.tls_key);
    kevring::tls_server_options wanted;
    wanted.certificate_file = certificate.text;
    wanted.key_file = options.tls_key.empty() ? certificate.text : options.tls_key.text;
    wanted.protocols = {"http/1.1"};
    wanted.handshake_timeout = options.head_time;
    // Half of the connections at most, so that a flood of handshakes leaves room for the others.
    wanted.handshake_count_max = std::clamp<std::size_t>(options.connection_count_max / 2, 1, 4096);
    const auto made = previous != nullptr && previous->tls ? previous->tls->renewed(wanted)
                                                           : kevring::tls_context::server(wanted);
    if (made) return *made;
    const std::error_code error = made.error();
    if (error == std::errc::function_not_supported)
        options.listen_tls.front().fail("this httpd was built without TLS (OpenSSL)");
    // An error of the system may concern either file.
    const bool is_key =
        !options.tls_key.empty() && (error == kevring::tls_errc::bad_key_file ||
                                     (error.category() == std::system_category() &&
                                      ::access(certificate.text.c_str(), R_OK) == 0));
    const option_text& wrong = is_key ? options.tls_key : certificate;
    wrong.fail(error.message() + (error == std::errc::permission_denied
                                      ? "; the user that the server runs as must be able to read "
                                        "certificate and key, as a reload reads them again"
                                      : ""));
}

directory_options listing_options_of(const site_settings& options) {
    return {.entry_count_max = options.listing_entry_count_max,
            .hidden_files = options.hidden_files};
}

// The host without its port, a dot at its end and capital letters; in `buffer`.
std::string_view host_of(std::string_view authority, std::array<char, 256>& buffer) noexcept {
    const std::size_t colon = authority.rfind(':');
    if (colon != authority.npos && authority.find(']', colon) == authority.npos)
        authority = authority.substr(0, colon);
    if (authority.ends_with('.')) authority.remove_suffix(1);
    if (authority.size() > buffer.size()) return {};
    std::ranges::transform(authority, buffer.begin(), lower_case);
    return {buffer.data(), authority.size()};
}

}  // namespace

site::site(const site_settings& chosen, std::size_t position)
    : options(chosen),
      index(position),
      rules(rules_of(chosen)),
      responses(chosen, *rules),
      files(open_root(chosen, rules)),
      redirects(redirects_of(chosen)),
      allowed(networks_of(chosen.allow)),
      denied(networks_of(chosen.deny)),
      protection(chosen.auth),
      listings(listing_options_of(chosen)) {}

configuration::configuration(settings chosen, const configuration* previous)
    : options(std::move(chosen)),
      log(open_access_log(options)),
      errors(open_errors(options)),
      tls(tls_of(options, previous)) {
    trusted_proxies = proxies_of(options.trusted_proxies);
    proxy_protocol = proxies_of(options.proxy_protocol);
    sites.emplace_back(options.site, 0);
    for (const host_settings& each : options.hosts) {
        for (const std::string& name : each.names) hosts_.emplace(name, sites.size());
        sites.emplace_back(each.site, sites.size());
    }
}

const site& configuration::find_host(std::string_view authority) const noexcept {
    std::array<char, 256> buffer;
    const std::string_view host = host_of(authority, buffer);
    if (const auto exact = hosts_.find(host); exact != hosts_.end()) return sites[exact->second];
    // "*.example.org" stands for "a.example.org" and "a.b.example.org"; the longest name wins.
    for (std::size_t dot = host.find('.'); dot != host.npos; dot = host.find('.', dot + 1)) {
        std::array<char, 256> pattern;
        const std::string_view below = host.substr(dot);
        if (below.size() >= pattern.size()) continue;
        pattern[0] = '*';
        std::ranges::copy(below, pattern.begin() + 1);
        const auto found = hosts_.find(std::string_view(pattern.data(), below.size() + 1));
        if (found != hosts_.end()) return sites[found->second];
    }
    return sites.front();
}

}  // namespace httpd
