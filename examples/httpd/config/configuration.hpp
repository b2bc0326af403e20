// configuration.hpp: the settings, and the files and directories that are opened for them.
#pragma once

#include "authentication.hpp"
#include "custom_responses.hpp"
#include "examples/httpd/content/document_root.hpp"
#include "examples/httpd/content/listing_service.hpp"
#include "examples/httpd/http/network.hpp"
#include "examples/httpd/observe/error_log.hpp"
#include "examples/httpd/observe/log_target.hpp"
#include "path_rules.hpp"
#include "settings.hpp"

#include <kevring/net/tls_context.hpp>

#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace httpd {

/// A root and how it is served: the default one, or that of some hosts.
///
/// Thread     Any: it is constant, but for `listings`, which locks.
struct site {
    /// Errors     Throws option_error that names the option.
    site(const site_settings& chosen, std::size_t position);

    const site_settings options;
    const std::size_t index;                    // in configuration::sites
    const std::shared_ptr<header_rules> rules;  // constant once `responses` is made
    const custom_responses responses;
    const document_root files;
    const std::vector<redirect_rule> redirects;
    const std::vector<ip_network> allowed;
    const std::vector<ip_network> denied;
    const authentication protection;
    mutable listing_service listings;

    /// The field lines of a response that belongs to no path.
    std::string common_lines() const {
        return std::string(responses.lines()) + rules->lines_for({}, {});
    }
    /// Whether a request must be checked against the client's address.
    bool has_access_rules() const noexcept { return !allowed.empty() || !denied.empty(); }
    /// Whether a client may be served; one without an address, of a Unix socket, is local.
    bool admits(const std::optional<ip_address>& client) const noexcept {
        if (!client) return true;
        return !contains(denied, *client) && (allowed.empty() || contains(allowed, *client));
    }
};

/// Proxies: networks, and the clients of Unix sockets.
struct proxy_networks {
    std::vector<ip_network> networks;
    bool unix_sockets = false;

    bool empty() const noexcept { return networks.empty() && !unix_sockets; }
    /// Whether the other end is one; an address that is missing is that of a Unix socket.
    bool contains(const std::optional<ip_address>& peer) const noexcept {
        return peer ? httpd::contains(networks, *peer) : unix_sockets;
    }
};

/// One reading of the settings, complete or not at all. A reload makes another, and each loop
/// switches to it later; a request is answered by the one that it began with.
///
/// Lifetime   Files that a site has found refer to it; a response that sends one holds this too.
/// Thread     Any: it is constant.
class configuration {
public:
    /// Errors     Throws option_error that names the option.
    /// `previous` is the configuration that this one replaces: sessions of its TLS clients continue.
    explicit configuration(settings chosen, const configuration* previous = nullptr);

    const settings options;
    std::deque<site> sites;                 // the first is the default
    std::shared_ptr<const log_target> log;  // null: none
    const std::shared_ptr<const error_log_target> errors;

    const std::optional<kevring::tls_context> tls;  // of --listen-tls

    proxy_networks trusted_proxies;  // their X-Forwarded-For counts
    proxy_networks proxy_protocol;   // their connections begin with a PROXY header

    /// The site for the host and port of a request.
    const site& find_site(std::string_view authority) const noexcept {
        return sites.size() == 1 ? sites.front() : find_host(authority);
    }

private:
    const site& find_host(std::string_view authority) const noexcept;

    std::map<std::string, std::size_t, std::less<>> hosts_;  // to the index of a site
};

}  // namespace httpd
