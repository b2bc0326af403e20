#include "configuration.hpp"

#include "examples/httpd/http/characters.hpp"

#include <algorithm>
#include <array>
#include <system_error>
#include <utility>

namespace httpd {
namespace {

root_options root_options_of(const site_settings& options) {
    root_options chosen;
    chosen.precompressed = options.precompressed;
    chosen.directory_listing = options.directory_listing;
    chosen.hidden_files = options.hidden_files;
    chosen.index_names = options.index_names;
    return chosen;
}

document_root open_root(const site_settings& options) try {
    return document_root(options.root.text, root_options_of(options));
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
      files(open_root(chosen)),
      responses(chosen),
      listings(listing_options_of(chosen)) {}

configuration::configuration(settings chosen)
    : options(std::move(chosen)), log(open_access_log(options)) {
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
