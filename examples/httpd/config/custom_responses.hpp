// custom_responses.hpp: field lines and error pages of the configuration.
#pragma once

#include "path_rules.hpp"
#include "settings.hpp"

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace httpd {

/// Thread     Any: it is constant.
class custom_responses {
public:
    /// A page is sent in one piece with its head.
    static constexpr std::size_t page_bytes_max = 16 * 1024;
    static constexpr std::size_t lines_bytes_max = 4 * 1024;

    /// Errors     Throws option_error for a field that cannot be sent or that the server sends
    ///            itself, and for a page that cannot be read or is too large.
    ///
    /// A field for which `rules` has a rule becomes the last rule of it.
    custom_responses(const site_settings& options, header_rules& rules);

    /// Field lines of each response, with CRLF.
    std::string_view lines() const noexcept { return lines_; }
    /// Whether one of them has this name, which is in lower case.
    bool has_field(std::string_view lower_name) const noexcept;
    /// The page that is sent with a status; empty for the built-in one.
    std::string_view page(unsigned status) const noexcept {
        return status >= first_status && status < first_status + pages_.size()
                   ? pages_[status - first_status]
                   : std::string_view();
    }

private:
    static constexpr unsigned first_status = 400;

    void add_field(const option_text& field, header_rules& rules);
    void add_page(const option_text& page);

    std::string lines_ = "Server: kevring\r\n";
    std::array<std::string, 200> pages_;
};

/// Checks "Name: value" for a response.
///
/// Result     The line, with CRLF.
/// Errors     Throws option_error of `field`, which may hold more than `text`.
std::string checked_field_line(const option_text& field, std::string_view text);

}  // namespace httpd
