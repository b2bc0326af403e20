#include "file_headers.hpp"

#include "examples/httpd/http/http_date.hpp"

#include <array>

namespace httpd {

file_headers::file_headers(const about& file) {
    text_.append("Content-Type: ").append(file.media_type).append("\r\n");
    if (file.coding != content_coding::identity)
        text_.append("Content-Encoding: ").append(name_of(file.coding)).append("\r\n");
    content_end_ = end();
    text_.append("Content-Length: ").append(std::to_string(file.byte_count)).append("\r\n");
    length_end_ = end();
    if (file.modified_second) {
        std::array<char, http_date_bytes> date{};
        write_http_date(*file.modified_second, date);
        text_.append("Last-Modified: ").append(date.data(), date.size()).append("\r\n");
    }
    if (!file.entity_tag.empty()) text_.append("ETag: ");
    tag_begin_ = end();
    text_.append(file.entity_tag);
    tag_end_ = end();
    if (!file.entity_tag.empty()) text_.append("\r\n");
    if (file.varies) text_.append("Vary: Accept-Encoding\r\n");
    text_.append(file.lines);
    validators_end_ = end();
    text_.append("Accept-Ranges: bytes\r\n");
    text_.shrink_to_fit();
}

}  // namespace httpd
