#include "access_log_format.hpp"

#include <algorithm>
#include <charconv>

#include "examples/httpd/http/http_date.hpp"

namespace httpd {
namespace {

// Limit of one text in a line, after escaping: the three of them and the rest fit.
constexpr std::size_t client_bytes_max = 128;
constexpr std::size_t user_bytes_max = 64;
constexpr std::size_t text_bytes_max = 1200;
static_assert(client_bytes_max + user_bytes_max + 3 * text_bytes_max + 300 <=
              access_line_bytes_max);

class line_writer {
public:
    explicit line_writer(char* out) noexcept : begin_(out), position_(out) {}

    line_writer& put(std::string_view text) noexcept {
        position_ = std::ranges::copy(text, position_).out;
        return *this;
    }
    line_writer& put(std::uint64_t number) noexcept {
        position_ = std::to_chars(position_, position_ + 20, number).ptr;
        return *this;
    }

    // `escape` comes before the two digits of a byte that is not written as it is.
    line_writer& put_escaped(std::string_view text, std::string_view escape,
                             std::size_t bytes_max) noexcept {
        constexpr std::string_view digits = "0123456789abcdef";
        const char* const end = position_ + bytes_max;
        for (const char byte : text) {
            const auto value = static_cast<unsigned char>(byte);
            const bool as_it_is = value >= 0x20 && value < 0x7f && byte != '"' && byte != '\\';
            if (static_cast<std::size_t>(end - position_) < (as_it_is ? 1 : escape.size() + 2))
                break;
            if (as_it_is) {
                *position_++ = byte;
                continue;
            }
            put(escape);
            *position_++ = digits[value / 16];
            *position_++ = digits[value % 16];
        }
        return *this;
    }

    std::string_view done() const noexcept {
        return {begin_, static_cast<std::size_t>(position_ - begin_)};
    }

private:
    char* begin_;
    char* position_;
};

void put_text(line_writer& line, std::string_view text) noexcept {
    if (text.empty()) text = "-";
    line.put("\"").put_escaped(text, "\\x", text_bytes_max).put("\"");
}

void put_member(line_writer& line, std::string_view name, std::string_view text) noexcept {
    line.put(",\"").put(name).put("\":\"").put_escaped(text, "\\u00", text_bytes_max).put("\"");
}

// A blank would end the column.
void put_user(line_writer& line, std::string_view user) noexcept {
    if (user.empty()) line.put("-");
    std::array<char, user_bytes_max> one_word{};
    const std::string_view begin = user.substr(0, user_bytes_max);
    std::ranges::replace_copy(begin, one_word.begin(), ' ', '_');
    line.put_escaped({one_word.data(), begin.size()}, "\\x", user_bytes_max);
}

}  // namespace

std::optional<access_log_format> access_log_format_named(std::string_view name) noexcept {
    using enum access_log_format;
    if (name == "common") return common;
    if (name == "combined") return combined;
    if (name == "json") return json;
    return std::nullopt;
}

std::string_view access_log_formatter::line(const access_record& record,
                                            std::span<char, access_line_bytes_max> out) noexcept {
    if (record.unix_second != time_second_) update_time(record.unix_second);
    const std::string_view time(time_text_.data(), time_bytes_);
    line_writer line(out.data());

    if (format_ == access_log_format::json) {
        const auto duration_us =
            std::max<std::int64_t>(0, record.duration / std::chrono::microseconds(1));
        line.put("{\"time\":\"").put(time).put("\",\"client\":\"");
        line.put_escaped(record.client, "\\u00", client_bytes_max).put("\"");
        if (!record.user.empty()) {
            line.put(",\"user\":\"").put_escaped(record.user, "\\u00", user_bytes_max).put("\"");
        }
        put_member(line, "request", record.request_line);
        line.put(",\"status\":").put(record.status);
        line.put(",\"bytes\":").put(record.body_bytes);
        line.put(",\"duration_us\":").put(static_cast<std::uint64_t>(duration_us));
        put_member(line, "referer", record.referer);
        put_member(line, "user_agent", record.user_agent);
        return line.put("}\n").done();
    }

    const std::string_view client = record.client.empty() ? "-" : record.client;
    line.put_escaped(client, "\\x", client_bytes_max).put(" - ");
    put_user(line, record.user);
    line.put(" [").put(time).put("] ");
    put_text(line, record.request_line);
    line.put(" ").put(record.status).put(" ");
    if (record.body_bytes == 0) {
        line.put("-");
    } else {
        line.put(record.body_bytes);
    }
    if (format_ == access_log_format::combined) {
        line.put(" ");
        put_text(line, record.referer);
        line.put(" ");
        put_text(line, record.user_agent);
    }
    return line.put("\n").done();
}

// Both forms are made of the date of HTTP, "Sun, 06 Nov 1994 08:49:37 GMT".
void access_log_formatter::update_time(std::int64_t unix_second) noexcept {
    std::array<char, http_date_bytes> date{};
    write_http_date(unix_second, date);
    const std::string_view text(date.data(), date.size());
    const std::string_view day = text.substr(5, 2);
    const std::string_view month = text.substr(8, 3);
    const std::string_view year = text.substr(12, 4);
    const std::string_view clock = text.substr(17, 8);

    line_writer time(time_text_.data());
    if (format_ == access_log_format::json) {  // 1994-11-06T08:49:37Z
        constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
        const std::size_t number = months.find(month) / 3 + 1;
        time.put(year).put(number < 10 ? "-0" : "-").put(number).put("-").put(day);
        time.put("T").put(clock).put("Z");
    } else {  // 06/Nov/1994:08:49:37 +0000
        time.put(day).put("/").put(month).put("/").put(year).put(":").put(clock).put(" +0000");
    }
    time_bytes_ = time.done().size();
    time_second_ = unix_second;
}

}  // namespace httpd
