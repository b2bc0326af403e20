#include "media_type.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "characters.hpp"

namespace httpd {
namespace {

struct media_type_row {
    std::string_view extension;
    std::string_view type;
};

// Sorted by extension, in lower case.
constexpr std::array built_in_table{
    media_type_row{"7z", "application/x-7z-compressed"},
    media_type_row{"apng", "image/apng"},
    media_type_row{"atom", "application/atom+xml"},
    media_type_row{"avif", "image/avif"},
    media_type_row{"bin", "application/octet-stream"},
    media_type_row{"bmp", "image/bmp"},
    media_type_row{"br", "application/octet-stream"},
    media_type_row{"bz2", "application/x-bzip2"},
    media_type_row{"c", "text/plain; charset=utf-8"},
    media_type_row{"cpp", "text/plain; charset=utf-8"},
    media_type_row{"css", "text/css; charset=utf-8"},
    media_type_row{"csv", "text/csv; charset=utf-8"},
    media_type_row{"deb", "application/vnd.debian.binary-package"},
    media_type_row{"doc", "application/msword"},
    media_type_row{"docx",
                   "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    media_type_row{"eot", "application/vnd.ms-fontobject"},
    media_type_row{"epub", "application/epub+zip"},
    media_type_row{"flac", "audio/flac"},
    media_type_row{"gif", "image/gif"},
    media_type_row{"gz", "application/gzip"},
    media_type_row{"h", "text/plain; charset=utf-8"},
    media_type_row{"hpp", "text/plain; charset=utf-8"},
    media_type_row{"htm", "text/html; charset=utf-8"},
    media_type_row{"html", "text/html; charset=utf-8"},
    media_type_row{"ico", "image/vnd.microsoft.icon"},
    media_type_row{"ics", "text/calendar; charset=utf-8"},
    media_type_row{"iso", "application/octet-stream"},
    media_type_row{"jar", "application/java-archive"},
    media_type_row{"jpeg", "image/jpeg"},
    media_type_row{"jpg", "image/jpeg"},
    media_type_row{"js", "text/javascript; charset=utf-8"},
    media_type_row{"json", "application/json"},
    media_type_row{"jsonld", "application/ld+json"},
    media_type_row{"jxl", "image/jxl"},
    media_type_row{"log", "text/plain; charset=utf-8"},
    media_type_row{"m3u8", "application/vnd.apple.mpegurl"},
    media_type_row{"m4a", "audio/mp4"},
    media_type_row{"m4v", "video/mp4"},
    media_type_row{"map", "application/json"},
    media_type_row{"md", "text/markdown; charset=utf-8"},
    media_type_row{"mjs", "text/javascript; charset=utf-8"},
    media_type_row{"mkv", "video/x-matroska"},
    media_type_row{"mov", "video/quicktime"},
    media_type_row{"mp3", "audio/mpeg"},
    media_type_row{"mp4", "video/mp4"},
    media_type_row{"mpeg", "video/mpeg"},
    media_type_row{"mpg", "video/mpeg"},
    media_type_row{"oga", "audio/ogg"},
    media_type_row{"ogg", "audio/ogg"},
    media_type_row{"ogv", "video/ogg"},
    media_type_row{"opus", "audio/ogg"},
    media_type_row{"otf", "font/otf"},
    media_type_row{"pdf", "application/pdf"},
    media_type_row{"png", "image/png"},
    media_type_row{"ppt", "application/vnd.ms-powerpoint"},
    media_type_row{"pptx",
                   "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
    media_type_row{"ps", "application/postscript"},
    media_type_row{"py", "text/x-python; charset=utf-8"},
    media_type_row{"rss", "application/rss+xml"},
    media_type_row{"rtf", "application/rtf"},
    media_type_row{"sh", "text/x-sh; charset=utf-8"},
    media_type_row{"svg", "image/svg+xml"},
    media_type_row{"svgz", "image/svg+xml"},
    media_type_row{"tar", "application/x-tar"},
    media_type_row{"tgz", "application/gzip"},
    media_type_row{"tif", "image/tiff"},
    media_type_row{"tiff", "image/tiff"},
    media_type_row{"toml", "application/toml"},
    media_type_row{"ts", "video/mp2t"},
    media_type_row{"ttf", "font/ttf"},
    media_type_row{"txt", "text/plain; charset=utf-8"},
    media_type_row{"vtt", "text/vtt; charset=utf-8"},
    media_type_row{"wasm", "application/wasm"},
    media_type_row{"wav", "audio/wav"},
    media_type_row{"webm", "video/webm"},
    media_type_row{"webmanifest", "application/manifest+json"},
    media_type_row{"webp", "image/webp"},
    media_type_row{"woff", "font/woff"},
    media_type_row{"woff2", "font/woff2"},
    media_type_row{"xhtml", "application/xhtml+xml"},
    media_type_row{"xls", "application/vnd.ms-excel"},
    media_type_row{"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
    media_type_row{"xml", "text/xml; charset=utf-8"},
    media_type_row{"xz", "application/x-xz"},
    media_type_row{"yaml", "application/yaml"},
    media_type_row{"yml", "application/yaml"},
    media_type_row{"zip", "application/zip"},
    media_type_row{"zst", "application/zstd"},
};
static_assert(std::ranges::is_sorted(built_in_table, {}, &media_type_row::extension));

constexpr std::size_t extension_bytes_max = 31;

// An extension in lower case, without allocation; empty where it is longer than any of ours.
class lower_extension {
public:
    explicit lower_extension(std::string_view extension) noexcept {
        if (extension.size() > bytes_.size()) return;
        std::ranges::transform(extension, bytes_.begin(), lower_case);
        size_ = extension.size();
    }
    std::string_view text() const noexcept { return {bytes_.data(), size_}; }

private:
    std::array<char, extension_bytes_max> bytes_{};
    std::size_t size_ = 0;
};

std::string_view built_in(std::string_view lower) noexcept {
    const auto row =
        std::ranges::lower_bound(built_in_table, lower, {}, &media_type_row::extension);
    return row != built_in_table.end() && row->extension == lower ? row->type : std::string_view();
}

std::string_view take_word(std::string_view& line) noexcept {
    line = trimmed(line);
    const std::string_view word = line.substr(0, line.find_first_of(" \t"));
    line.remove_prefix(word.size());
    return word;
}

bool is_media_type(std::string_view text) noexcept {
    const std::size_t slash = text.find('/');
    return slash != text.npos && slash != 0 && slash + 1 != text.size() &&
           all_are(text.substr(0, slash), token_character) &&
           all_are(text.substr(slash + 1), token_character);
}

}  // namespace

std::string_view extension_of(std::string_view name) noexcept {
    const std::size_t slash = name.rfind('/');
    if (slash != name.npos) name.remove_prefix(slash + 1);
    const std::size_t dot = name.rfind('.');
    return dot == name.npos || dot == 0 ? std::string_view() : name.substr(dot + 1);
}

std::string_view built_in_media_type(std::string_view name) noexcept {
    const lower_extension extension(extension_of(name));
    const std::string_view type = built_in(extension.text());
    return type.empty() ? unknown_media_type : type;
}

std::size_t media_types::load(std::string_view mime_types) {
    std::size_t count = 0;
    while (!mime_types.empty()) {
        const std::size_t line_bytes = std::min(mime_types.find('\n'), mime_types.size());
        std::string_view line = mime_types.substr(0, line_bytes);
        mime_types.remove_prefix(std::min(line_bytes + 1, mime_types.size()));
        if (line.ends_with('\r')) line.remove_suffix(1);
        line = line.substr(0, line.find('#'));

        const std::string_view type = take_word(line);
        if (!is_media_type(type)) continue;
        for (auto word = take_word(line); !word.empty(); word = take_word(line)) {
            const lower_extension extension(word);
            if (extension.text().empty()) continue;
            auto& known = by_extension_[std::string(extension.text())];
            known = type;
            if (known.starts_with("text/")) known += "; charset=utf-8";
            ++count;
        }
    }
    return count;
}

void media_types::set(std::string_view extension, std::string type) {
    by_extension_[std::string(lower_extension(extension).text())] = std::move(type);
}

std::string_view media_types::find(std::string_view name) const {
    const lower_extension extension(extension_of(name));
    const auto known = by_extension_.find(extension.text());
    if (known != by_extension_.end()) return known->second;
    const std::string_view type = built_in(extension.text());
    return type.empty() ? unknown_media_type : type;
}

}  // namespace httpd
