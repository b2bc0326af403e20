#include "http_date.hpp"

#include <algorithm>
#include <chrono>

#include "characters.hpp"

namespace httpd {
namespace {

using namespace std::chrono;

constexpr std::array<std::string_view, 7> day_names{"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                    "Thursday", "Friday", "Saturday"};
constexpr std::array<std::string_view, 12> month_names{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

constexpr std::int64_t earliest = sys_seconds(sys_days(year(0) / 1 / 1)).time_since_epoch().count();
constexpr std::int64_t latest =
    sys_seconds(sys_days(year(10000) / 1 / 1)).time_since_epoch().count() - 1;

// Takes what it reads off the front of a text; once something was not as it must be, all fails.
class date_reader {
public:
    explicit date_reader(std::string_view text) noexcept : rest_(text) {}

    bool at_end() const noexcept { return good_ && rest_.empty(); }
    bool take(std::string_view literal) noexcept {
        if (!rest_.starts_with(literal)) return false;
        rest_.remove_prefix(literal.size());
        return true;
    }
    void need(std::string_view literal) noexcept { good_ = take(literal) && good_; }

    int number(std::size_t digits) noexcept {
        if (rest_.size() < digits || !all_are(rest_.substr(0, digits), digit_character)) {
            good_ = false;
            return 0;
        }
        int value = 0;
        for (const char digit : rest_.substr(0, digits)) value = value * 10 + (digit - '0');
        rest_.remove_prefix(digits);
        return value;
    }

    // asctime pads the day with a blank.
    int padded_day() noexcept {
        if (take(" ")) return number(1);
        return number(2);
    }

    month month_name() noexcept {
        for (unsigned index = 0; index < month_names.size(); ++index) {
            if (take(month_names[index])) return month(index + 1);
        }
        good_ = false;
        return month(1);
    }

    seconds time_of_day() noexcept {
        const int hour = number(2);
        need(":");
        const int minute = number(2);
        need(":");
        const int second = number(2);
        // 60 is a leap second, and counts as the first of the next minute.
        if (hour > 23 || minute > 59 || second > 60) good_ = false;
        return hours(hour) + minutes(minute) + seconds(second);
    }

private:
    std::string_view rest_;
    bool good_ = true;
};

std::optional<std::int64_t> join(const date_reader& reader, year_month_day date,
                                 seconds time) noexcept {
    if (!reader.at_end() || !date.ok()) return std::nullopt;
    return (sys_seconds(sys_days(date)) + time).time_since_epoch().count();
}

// The year with these last two digits that is at most 50 years ahead (RFC 9110 5.6.7).
year with_century(int last_digits, std::int64_t now_unix_seconds) noexcept {
    const sys_seconds now{seconds(std::clamp(now_unix_seconds, earliest, latest))};
    const int this_year = int(year_month_day(floor<days>(now)).year());
    int candidate = this_year - this_year % 100 + 100 + last_digits;
    while (candidate > this_year + 50) candidate -= 100;
    return year(candidate);
}

void put_two_digits(char* out, unsigned value) noexcept {
    out[0] = static_cast<char>('0' + value / 10);
    out[1] = static_cast<char>('0' + value % 10);
}

}  // namespace

void write_http_date(std::int64_t unix_seconds, std::span<char, http_date_bytes> out) noexcept {
    const sys_seconds when{seconds(std::clamp(unix_seconds, earliest, latest))};
    const auto day = floor<days>(when);
    const year_month_day date(day);
    const hh_mm_ss time(when - day);
    const auto full_year = static_cast<unsigned>(int(date.year()));

    std::string_view("Sun, 00 Jan 0000 00:00:00 GMT").copy(out.data(), out.size());
    day_names[weekday(day).c_encoding()].copy(&out[0], 3);
    put_two_digits(&out[5], unsigned(date.day()));
    month_names[unsigned(date.month()) - 1].copy(&out[8], 3);
    put_two_digits(&out[12], full_year / 100);
    put_two_digits(&out[14], full_year % 100);
    put_two_digits(&out[17], static_cast<unsigned>(time.hours().count()));
    put_two_digits(&out[20], static_cast<unsigned>(time.minutes().count()));
    put_two_digits(&out[23], static_cast<unsigned>(time.seconds().count()));
}

std::optional<std::int64_t> parse_http_date(std::string_view text,
                                            std::int64_t now_unix_seconds) noexcept {
    // Names with a common beginning are distinguished by the text after them.
    const auto weekday_name = std::find_if(day_names.begin(), day_names.end(), [&](auto name) {
        return text.starts_with(name.substr(0, 3));
    });
    if (weekday_name == day_names.end()) return std::nullopt;
    date_reader reader(text);

    if (reader.take(*weekday_name)) {  // Sunday, 06-Nov-94 08:49:37 GMT
        reader.need(", ");
        const auto date_day = static_cast<unsigned>(reader.number(2));
        reader.need("-");
        const month date_month = reader.month_name();
        reader.need("-");
        const year date_year = with_century(reader.number(2), now_unix_seconds);
        reader.need(" ");
        const seconds time = reader.time_of_day();
        reader.need(" GMT");
        return join(reader, date_year / date_month / day(date_day), time);
    }
    reader.need(weekday_name->substr(0, 3));
    if (reader.take(", ")) {  // Sun, 06 Nov 1994 08:49:37 GMT
        const auto date_day = static_cast<unsigned>(reader.number(2));
        reader.need(" ");
        const month date_month = reader.month_name();
        reader.need(" ");
        const year date_year(reader.number(4));
        reader.need(" ");
        const seconds time = reader.time_of_day();
        reader.need(" GMT");
        return join(reader, date_year / date_month / day(date_day), time);
    }
    reader.need(" ");  // Sun Nov  6 08:49:37 1994
    const month date_month = reader.month_name();
    reader.need(" ");
    const auto date_day = static_cast<unsigned>(reader.padded_day());
    reader.need(" ");
    const seconds time = reader.time_of_day();
    reader.need(" ");
    const year date_year(reader.number(4));
    return join(reader, date_year / date_month / day(date_day), time);
}

}  // namespace httpd
