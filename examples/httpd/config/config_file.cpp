#include "config_file.hpp"

#include "examples/httpd/http/characters.hpp"
#include "option_text.hpp"
#include "option_values.hpp"

#include <array>
#include <cerrno>
#include <string_view>
#include <system_error>

#include <kevring/runtime/fd.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace httpd {
namespace {

constexpr std::size_t file_bytes_max = 1 << 20;

// Reads the words, strings and marks of a file, and counts its lines.
class config_reader {
public:
    config_reader(std::string_view text, const std::string& path) : rest_(text), path_(path) {}

    std::size_t line() const noexcept { return line_; }
    [[noreturn]] void fail(const std::string& reason) const { fail(line_, reason); }
    [[noreturn]] void fail(std::size_t line, const std::string& reason) const {
        throw option_error(path_ + ':' + std::to_string(line) + ": " + reason);
    }

    // Blanks, and comments up to the end of their line.
    void skip_blanks() noexcept {
        while (!rest_.empty()) {
            if (rest_.front() == '#')
                rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size()));
            else if (is_blank(rest_.front()) || rest_.front() == '\r')
                rest_.remove_prefix(1);
            else
                return;
        }
    }
    void skip_lines() noexcept {
        for (skip_blanks(); take('\n'); skip_blanks()) {}
    }
    bool at_end() const noexcept { return rest_.empty(); }
    bool at_line_end() noexcept {
        skip_blanks();
        return rest_.empty() || rest_.front() == '\n';
    }
    bool take(char mark) noexcept {
        if (!rest_.starts_with(mark)) return false;
        if (mark == '\n') ++line_;
        rest_.remove_prefix(1);
        return true;
    }
    // A quoted string, or bytes up to one of `ends`, a comment or the end of the line.
    std::string value(std::string_view ends) {
        if (!rest_.empty() && (rest_.front() == '"' || rest_.front() == '\'')) return quoted();
        std::size_t count = 0;
        while (count < rest_.size() && rest_[count] != '\n' &&
               ends.find(rest_[count]) == ends.npos &&
               !(rest_[count] == '#' && count > 0 && is_blank(rest_[count - 1])))
            ++count;
        std::string_view text = rest_.substr(0, count);
        rest_.remove_prefix(count);
        if (text.ends_with('\r')) text.remove_suffix(1);
        return std::string(trimmed(text));
    }

private:
    std::string quoted() {
        const char mark = rest_.front();
        std::string text;
        for (rest_.remove_prefix(1); !take(mark); rest_.remove_prefix(1)) {
            if (rest_.empty() || rest_.front() == '\n')
                fail(std::string("a quoted value has no closing ") + mark);
            if (mark == '"' && rest_.front() == '\\' && rest_.size() > 1 &&
                (rest_[1] == '"' || rest_[1] == '\\'))
                rest_.remove_prefix(1);
            text += rest_.front();
        }
        return text;
    }

    std::string_view rest_;
    const std::string& path_;
    std::size_t line_ = 1;
};

void read_list(config_reader& reader, config_entry& entry) {
    entry.is_list = true;
    while (true) {
        reader.skip_lines();
        if (reader.take(']')) return;
        if (reader.at_end()) reader.fail(entry.line, entry.name + ": the list has no closing ]");
        entry.values.push_back(reader.value(",]"));
        reader.skip_lines();
        if (reader.take(']')) return;
        if (reader.at_end()) reader.fail(entry.line, entry.name + ": the list has no closing ]");
        if (!reader.take(','))
            reader.fail(entry.name + ": values of a list are separated by commas");
    }
}

}  // namespace

std::vector<config_section> split_config(const std::string& text, const std::string& path) {
    std::vector<config_section> sections(1);
    config_reader reader(text, path);
    for (reader.skip_lines(); !reader.at_end(); reader.skip_lines()) {
        const std::size_t line = reader.line();
        if (reader.take('[')) {
            config_section& section = sections.emplace_back();
            section.line = line;
            for (reader.skip_blanks(); !reader.take(']'); reader.skip_blanks()) {
                std::string word = reader.value(" \t]");
                if (word.empty()) reader.fail("a section's line has no closing ]");
                section.words.push_back(std::move(word));
            }
        } else {
            config_entry& entry = sections.back().entries.emplace_back();
            entry.line = line;
            entry.name = reader.value("=");
            if (!reader.take('=') || entry.name.empty())
                reader.fail(line, "'" + entry.name + "': a line is name = value");
            reader.skip_blanks();
            if (reader.take('['))
                read_list(reader, entry);
            else
                entry.values.push_back(reader.value(""));
        }
        if (!reader.at_line_end())
            reader.fail("there is more after the value; quote a value with blanks");
    }
    return sections;
}

std::string read_text_file(const std::string& path) {
    const auto fail = [](const std::string& reason) { throw value_error(reason); };
    const kevring::fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat status{};
    if (!file || ::fstat(file.number(), &status) != 0) fail(std::system_category().message(errno));
    if (S_ISDIR(status.st_mode)) fail("this is a directory; name a file");
    std::string text;
    std::array<char, 16 * 1024> part;
    while (true) {
        const ssize_t count = ::read(file.number(), part.data(), part.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) fail(std::system_category().message(errno));
        if (count == 0) return text;
        text.append(part.data(), static_cast<std::size_t>(count));
        if (text.size() > file_bytes_max) fail("more than 1 MiB; is this the right file?");
    }
}

std::string read_config_file(const std::string& path) try {
    return read_text_file(path);
} catch (const value_error& failure) {
    throw option_error("--config " + path + ": " + failure.what());
}

}  // namespace httpd
