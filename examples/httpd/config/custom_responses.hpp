// custom_responses.hpp: what the configuration adds to responses: field lines, and pages for
// errors.
#pragma once

#include "settings.hpp"

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace httpd {

/// Thread     Any: it is constant.
class custom_responses {
public:
    /// A page goes out in one piece with its head.
    static constexpr std::size_t page_bytes_max = 16 * 1024;
    static constexpr std::size_t lines_bytes_max = 4 * 1024;

    /// Errors     Throws std::runtime_error for a header that cannot be sent or is the server's own
    ///            to send, and for a page that cannot be read or is too large.
    explicit custom_responses(const settings& options);

    /// Field lines of each response, with their ends.
    std::string_view lines() const noexcept { return lines_; }
    /// The page that is sent with a status; empty for the server's own.
    std::string_view page(unsigned status) const noexcept {
        return status >= first_status && status < first_status + pages_.size()
                   ? pages_[status - first_status]
                   : std::string_view();
    }

private:
    static constexpr unsigned first_status = 400;

    std::string lines_ = "Server: kevring\r\n";
    std::array<std::string, 200> pages_;
};

}  // namespace httpd
