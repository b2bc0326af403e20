// option_text.hpp: an option's value as text, with the place that set it.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace httpd {

/// A value that can be checked only when it is used, as a file or an address. `place` names the
/// option for messages: "--root" or "/etc/httpd.conf:3: root =".
struct option_text {
    std::string text;
    std::string place;

    bool empty() const noexcept { return text.empty(); }
    /// "--root /srv", or "/etc/httpd.conf:3: root = /srv".
    std::string label() const { return place + ' ' + text; }
    /// Throws option_error with "LABEL: REASON".
    [[noreturn]] void fail(std::string_view reason) const;

    /// By text alone: a line that moved within the file is the same value.
    friend bool operator==(const option_text& one, const option_text& other) noexcept {
        return one.text == other.text;
    }
};

/// An option or a line of the configuration file is wrong. The text names option, value and reason.
class option_error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

inline void option_text::fail(std::string_view reason) const {
    throw option_error(label().append(": ").append(reason));
}

}  // namespace httpd
