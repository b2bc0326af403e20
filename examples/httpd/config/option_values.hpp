// option_values.hpp: from the text of an option to its value, or to the reason why it has none.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace httpd {

/// The reason why a text is no value of its option, without the option's name.
class value_error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// All of these throw value_error.

/// A whole decimal number from `first` to `last`; no sign, no blank, no fraction.
std::uint64_t parse_number(std::string_view text, std::uint64_t first, std::uint64_t last);
/// Seconds from `first` to `last`, with a fraction: "2.5".
std::chrono::milliseconds parse_seconds(std::string_view text, double first, double last);
/// A number of bytes, with an optional unit: "512", "64K", "64M", "1G" (powers of 1024).
std::size_t parse_bytes(std::string_view text, std::uint64_t last);
/// "true" or "false", or a number or word that means one of them.
bool parse_switch(std::string_view text);
/// Permissions in octal, as in chmod(1): "660".
unsigned parse_mode(std::string_view text);
/// The index of `text` in `words`.
std::size_t parse_word(std::string_view text, const std::vector<std::string_view>& words);

/// Throws if `text` is no address to listen at, and explains what is wrong: a URL, a port that is
/// missing or out of range, a host name.
void check_address(std::string_view text);

}  // namespace httpd
