#include "custom_responses.hpp"

#include "examples/httpd/http/response_head.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include <strings.h>

namespace httpd {
namespace {

// A second one of these would contradict the server's, or change where a response ends.
constexpr std::array<const char*, 10> reserved{
    "Connection", "Content-Length",    "Content-Range", "Content-Type", "Date",
    "ETag",       "Transfer-Encoding", "Location",      "Upgrade",      "Server"};

bool is_reserved(const std::string& name) noexcept {
    return std::ranges::any_of(
        reserved, [&](const char* one) { return ::strcasecmp(one, name.c_str()) == 0; });
}

}  // namespace

custom_responses::custom_responses(const settings& options) {
    for (const std::string& header : options.headers) {
        const std::size_t colon = header.find(':');
        const std::string name = header.substr(0, colon);
        std::size_t first = colon == std::string::npos ? header.size() : colon + 1;
        while (first < header.size() && header[first] == ' ') ++first;
        const std::string value = header.substr(first);
        if (colon == std::string::npos || !is_field(name, value))
            throw std::runtime_error("--header " + header + ": wants 'Name: value'");
        if (is_reserved(name))
            throw std::runtime_error("--header " + header + ": the server's own to send");
        lines_.append(name).append(": ").append(value).append("\r\n");
    }
    if (lines_.size() > lines_bytes_max) throw std::runtime_error("--header: too many bytes");
    for (const std::string& text : options.error_pages) {
        const std::size_t equals = text.find('=');
        unsigned status = 0;
        const char* const end = text.data() + std::min(equals, text.size());
        const auto [stop, wrong] = std::from_chars(text.data(), end, status);
        if (equals == std::string::npos || wrong != std::errc() || stop != end ||
            status < first_status || status >= first_status + pages_.size())
            throw std::runtime_error("--error-page " + text + ": wants STATUS=FILE, from 400 on");
        std::ifstream file(text.substr(equals + 1), std::ios::binary);
        std::string& page = pages_[status - first_status];
        page.assign(std::istreambuf_iterator<char>(file), {});
        if (!file.is_open() || file.bad() || page.empty())
            throw std::runtime_error("--error-page " + text + ": cannot be read, or is empty");
        if (page.size() > page_bytes_max)
            throw std::runtime_error("--error-page " + text + ": more than 16 KiB");
    }
}

}  // namespace httpd
