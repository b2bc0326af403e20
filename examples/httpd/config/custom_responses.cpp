#include "custom_responses.hpp"

#include "examples/httpd/http/characters.hpp"
#include "examples/httpd/http/response_head.hpp"

#include <kevring/runtime/fd.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace httpd {
namespace {

// The server sends these itself. A second line would contradict the first, or change the end of the
// response.
constexpr std::array reserved{std::string_view("accept-ranges"),
                              std::string_view("allow"),
                              std::string_view("connection"),
                              std::string_view("content-encoding"),
                              std::string_view("content-length"),
                              std::string_view("content-range"),
                              std::string_view("content-type"),
                              std::string_view("date"),
                              std::string_view("etag"),
                              std::string_view("keep-alive"),
                              std::string_view("last-modified"),
                              std::string_view("location"),
                              std::string_view("retry-after"),
                              std::string_view("server"),
                              std::string_view("te"),
                              std::string_view("trailer"),
                              std::string_view("transfer-encoding"),
                              std::string_view("upgrade"),
                              std::string_view("vary"),
                              std::string_view("www-authenticate"),
                              std::string_view("proxy-authenticate"),
                              std::string_view("proxy-connection")};

bool is_reserved(std::string_view name) noexcept {
    return std::ranges::any_of(
        reserved, [&](std::string_view each) { return same_ignoring_case(name, each); });
}

std::string read_page(const option_text& page, const std::string& path) {
    const kevring::fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat status{};
    if (!file || ::fstat(file.number(), &status) != 0)
        page.fail(std::system_category().message(errno));
    if (S_ISDIR(status.st_mode)) page.fail("this is a directory; name a file");
    if (!S_ISREG(status.st_mode)) page.fail("this is not a regular file");
    std::string text(custom_responses::page_bytes_max + 1, '\0');
    std::size_t used = 0;
    while (used < text.size()) {
        const ssize_t count = ::read(file.number(), text.data() + used, text.size() - used);
        if (count < 0) page.fail(std::system_category().message(errno));
        if (count == 0) break;
        used += static_cast<std::size_t>(count);
    }
    text.resize(used);
    if (text.empty()) page.fail("the file is empty");
    if (text.size() > custom_responses::page_bytes_max) page.fail("the file is larger than 16 KiB");
    return text;
}

}  // namespace

std::string checked_field_line(const option_text& field, std::string_view text) {
    const std::size_t colon = text.find(':');
    const std::string_view name = trimmed(text.substr(0, colon));
    const std::string_view value =
        trimmed(colon == text.npos ? std::string_view() : text.substr(colon + 1));
    if (colon == text.npos || !is_field(name, value))
        field.fail("it must be 'Name: value', without control characters");
    if (is_reserved(name)) field.fail("the server sets this field itself; remove the option");
    return std::string(name).append(": ").append(value).append("\r\n");
}

custom_responses::custom_responses(const site_settings& options, header_rules& rules) {
    for (const option_text& each : options.headers) add_field(each, rules);
    for (const option_text& each : options.error_pages) add_page(each);
}

void custom_responses::add_field(const option_text& field, header_rules& rules) {
    const std::string line = checked_field_line(field, field.text);
    if (rules.has_field(std::string_view(line).substr(0, line.find(':'))))
        return rules.add_default(line);
    lines_ += line;
    if (lines_.size() > lines_bytes_max) field.fail("the field lines have more than 4 KiB in all");
}

void custom_responses::add_page(const option_text& page) {
    const std::string& text = page.text;
    const std::size_t equals = text.find('=');
    unsigned status = 0;
    const char* const end = text.data() + std::min(equals, text.size());
    const auto [stop, wrong] = std::from_chars(text.data(), end, status);
    if (equals == std::string::npos || wrong != std::errc() || stop != end ||
        status < first_status || status >= first_status + pages_.size())
        page.fail("it must be STATUS=FILE, with a status from 400 to 599");
    pages_[status - first_status] = read_page(page, text.substr(equals + 1));
}

bool custom_responses::has_field(std::string_view lower_name) const noexcept {
    std::string_view rest = lines_;
    while (!rest.empty()) {
        if (same_ignoring_case(rest.substr(0, rest.find(':')), lower_name)) return true;
        rest.remove_prefix(rest.find('\n') + 1);
    }
    return false;
}

}  // namespace httpd
