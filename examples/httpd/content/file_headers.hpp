// file_headers.hpp: the field lines that depend on a file.
#pragma once

#include "examples/httpd/http/accept_encoding.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace httpd {

/// Built once per file. All are views into one text, so that a response reads little memory.
class file_headers {
public:
    struct about {
        std::string_view media_type;
        content_coding coding = content_coding::identity;
        std::uint64_t byte_count = 0;
        std::optional<std::int64_t> modified_second;  // since 1970; nothing: no Last-Modified
        std::string_view entity_tag;                  // with its quotes; empty: no ETag
        bool varies = false;                          // there are other codings of it
        std::string_view lines;                       // of the configuration, for this file
    };

    file_headers() noexcept = default;
    explicit file_headers(const about& file);

    /// All lines of a 200.
    std::string_view whole() const noexcept { return text_; }
    /// Content-Type and the like, without the length.
    std::string_view content() const noexcept { return part(0, content_end_); }
    /// Those that a 304 has too.
    std::string_view validators() const noexcept { return part(length_end_, validators_end_); }
    /// With its quotes.
    std::string_view entity_tag() const noexcept { return part(tag_begin_, tag_end_); }

private:
    std::string_view part(std::uint32_t begin, std::uint32_t end) const noexcept {
        return {text_.data() + begin, end - begin};
    }
    std::uint32_t end() const noexcept { return static_cast<std::uint32_t>(text_.size()); }

    std::string text_;
    std::uint32_t content_end_ = 0;
    std::uint32_t length_end_ = 0;
    std::uint32_t tag_begin_ = 0;
    std::uint32_t tag_end_ = 0;
    std::uint32_t validators_end_ = 0;
};

}  // namespace httpd
