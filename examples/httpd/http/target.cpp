#include "target.hpp"

#include "characters.hpp"

namespace httpd {
namespace {

constexpr std::string_view well_known = ".well-known";

// The name as it grows, segment by segment.
class name_builder {
public:
    explicit name_builder(std::span<char> buffer) noexcept : buffer_(buffer) {}

    bool full() const noexcept { return size_ + 1 >= buffer_.size(); }  // one is the NUL's
    void put(char byte) noexcept { buffer_[size_++] = byte; }

    // At a slash, or at the end of the path.
    target_error end_segment() noexcept {
        const std::string_view segment(buffer_.data() + segment_first_, size_ - segment_first_);
        ends_in_folder_ = true;
        if (segment.empty()) return target_error::none;
        if (segment == ".") {
            size_ = segment_first_;
            return target_error::none;
        }
        if (segment == "..") return drop_segment();
        ends_in_folder_ = false;
        if (full()) return target_error::too_long;
        put('/');
        segment_first_ = size_;
        return target_error::none;
    }

    target_name finish() noexcept {
        target_name done;
        done.directory = ends_in_folder_;
        if (size_ == 0) put('/');  // for the dot
        --size_;
        if (size_ == 0) buffer_[size_++] = '.';
        buffer_[size_] = '\0';
        done.name = {buffer_.data(), size_};
        done.hidden = is_hidden(done.name);
        return done;
    }

private:
    target_error drop_segment() noexcept {
        if (segment_first_ == 0) return target_error::above_root;
        size_ = segment_first_ - 1;
        while (size_ > 0 && buffer_[size_ - 1] != '/') --size_;
        segment_first_ = size_;
        return target_error::none;
    }

    static bool is_hidden(std::string_view name) noexcept {
        if (name == ".") return false;
        const bool public_start =
            name.starts_with(well_known) &&
            (name.size() == well_known.size() || name[well_known.size()] == '/');
        if (name.front() == '.' && !public_start) return true;
        return name.find("/.") != name.npos;
    }

    std::span<char> buffer_;
    std::size_t size_ = 0;
    std::size_t segment_first_ = 0;
    bool ends_in_folder_ = true;
};

target_name failed(target_error error) noexcept {
    target_name name;
    name.error = error;
    return name;
}

}  // namespace

std::uint16_t status_of(target_error error) noexcept {
    return error == target_error::too_long ? 414 : 400;
}

target_name parse_target(std::string_view path, std::span<char> buffer) noexcept {
    if (buffer.size() < 2) return failed(target_error::too_long);
    name_builder name(buffer);
    std::size_t index = path.starts_with('/') ? 1 : 0;
    for (; index < path.size(); ++index) {
        char byte = path[index];
        if (byte == '/') {
            const target_error error = name.end_segment();
            if (error != target_error::none) return failed(error);
            continue;
        }
        if (byte == '%') {
            if (path.size() - index < 3 || !is(path[index + 1], hex_character) ||
                !is(path[index + 2], hex_character)) {
                return failed(target_error::bad_encoding);
            }
            byte = static_cast<char>(hex_value(path[index + 1]) * 16 + hex_value(path[index + 2]));
            index += 2;
            if (byte == '/') return failed(target_error::encoded_slash);
        }
        if (!is(byte, field_character) || byte == '\t') {
            return failed(target_error::control_character);
        }
        if (name.full()) return failed(target_error::too_long);
        name.put(byte);
    }
    const target_error error = name.end_segment();
    return error == target_error::none ? name.finish() : failed(error);
}

void append_encoded(std::string& text, std::string_view segment) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    for (const char byte : segment) {
        const auto value = static_cast<unsigned char>(byte);
        const bool unreserved = is(byte, token_character) && is(byte, host_character) &&
                                std::string_view("!$&'*+").find(byte) == std::string_view::npos;
        if (unreserved)
            text += byte;
        else
            text.append({'%', digits[value / 16], digits[value % 16]});
    }
}

std::string encoded_path(std::string_view name, bool directory) {
    std::string path = "/";
    if (name == ".") return path;
    while (true) {
        const std::size_t slash = name.find('/');
        append_encoded(path, name.substr(0, slash));
        if (slash == name.npos) break;
        path += '/';
        name.remove_prefix(slash + 1);
    }
    if (directory) path += '/';
    return path;
}

}  // namespace httpd
