#include "status.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace httpd {
namespace {

struct status_row {
    unsigned status;
    std::string_view line;
};

#define HTTPD_STATUS(number, reason) status_row{number, "HTTP/1.1 " #number " " reason "\r\n"}

constexpr std::array status_table{
    HTTPD_STATUS(100, "Continue"),
    HTTPD_STATUS(101, "Switching Protocols"),
    HTTPD_STATUS(200, "OK"),
    HTTPD_STATUS(201, "Created"),
    HTTPD_STATUS(202, "Accepted"),
    HTTPD_STATUS(203, "Non-Authoritative Information"),
    HTTPD_STATUS(204, "No Content"),
    HTTPD_STATUS(205, "Reset Content"),
    HTTPD_STATUS(206, "Partial Content"),
    HTTPD_STATUS(300, "Multiple Choices"),
    HTTPD_STATUS(301, "Moved Permanently"),
    HTTPD_STATUS(302, "Found"),
    HTTPD_STATUS(303, "See Other"),
    HTTPD_STATUS(304, "Not Modified"),
    HTTPD_STATUS(307, "Temporary Redirect"),
    HTTPD_STATUS(308, "Permanent Redirect"),
    HTTPD_STATUS(400, "Bad Request"),
    HTTPD_STATUS(401, "Unauthorized"),
    HTTPD_STATUS(402, "Payment Required"),
    HTTPD_STATUS(403, "Forbidden"),
    HTTPD_STATUS(404, "Not Found"),
    HTTPD_STATUS(405, "Method Not Allowed"),
    HTTPD_STATUS(406, "Not Acceptable"),
    HTTPD_STATUS(407, "Proxy Authentication Required"),
    HTTPD_STATUS(408, "Request Timeout"),
    HTTPD_STATUS(409, "Conflict"),
    HTTPD_STATUS(410, "Gone"),
    HTTPD_STATUS(411, "Length Required"),
    HTTPD_STATUS(412, "Precondition Failed"),
    HTTPD_STATUS(413, "Content Too Large"),
    HTTPD_STATUS(414, "URI Too Long"),
    HTTPD_STATUS(415, "Unsupported Media Type"),
    HTTPD_STATUS(416, "Range Not Satisfiable"),
    HTTPD_STATUS(417, "Expectation Failed"),
    HTTPD_STATUS(421, "Misdirected Request"),
    HTTPD_STATUS(422, "Unprocessable Content"),
    HTTPD_STATUS(425, "Too Early"),
    HTTPD_STATUS(426, "Upgrade Required"),
    HTTPD_STATUS(428, "Precondition Required"),
    HTTPD_STATUS(429, "Too Many Requests"),
    HTTPD_STATUS(431, "Request Header Fields Too Large"),
    HTTPD_STATUS(451, "Unavailable For Legal Reasons"),
    HTTPD_STATUS(500, "Internal Server Error"),
    HTTPD_STATUS(501, "Not Implemented"),
    HTTPD_STATUS(502, "Bad Gateway"),
    HTTPD_STATUS(503, "Service Unavailable"),
    HTTPD_STATUS(504, "Gateway Timeout"),
    HTTPD_STATUS(505, "HTTP Version Not Supported"),
    HTTPD_STATUS(511, "Network Authentication Required"),
};

#undef HTTPD_STATUS

constexpr unsigned status_max = 511;

// From a status to its row; one that has none leads to 500.
constexpr auto row_indexes = [] {
    std::array<std::uint8_t, status_max + 1> indexes{};
    std::size_t unknown = 0;
    while (status_table[unknown].status != 500) ++unknown;
    indexes.fill(static_cast<std::uint8_t>(unknown));
    for (std::size_t index = 0; index < status_table.size(); ++index) {
        indexes[status_table[index].status] = static_cast<std::uint8_t>(index);
    }
    return indexes;
}();

}  // namespace

std::string_view status_line(unsigned status) noexcept {
    return status_table[row_indexes[status <= status_max ? status : 500]].line;
}

std::string_view reason_of(unsigned status) noexcept {
    constexpr std::size_t before = std::string_view("HTTP/1.1 404 ").size();
    const std::string_view line = status_line(status);
    return line.substr(before, line.size() - before - 2);
}

}  // namespace httpd
