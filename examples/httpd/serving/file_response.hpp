// file_response.hpp: the response to GET or HEAD of a file, as its conditions and ranges decide.
#pragma once

#include "examples/httpd/content/document_root.hpp"
#include "examples/httpd/http/byte_range.hpp"

#include <cstdint>
#include <ctime>
#include <optional>

namespace httpd {

class request_head;

/// Lifetime   That of the file.
struct file_response {
    enum class kind : std::uint8_t {
        whole,                ///< 200
        ranges,               ///< 206
        not_modified,         ///< 304
        precondition_failed,  ///< 412
        unsatisfiable         ///< 416
    };

    kind what = kind::whole;
    const open_file* file = nullptr;  // the variant in the coding that the client accepts
    std::optional<byte_ranges> ranges;
};

/// The coding that the client prefers and that has to be made first; identity if none has.
content_coding coding_to_make(const request_head& head, const served_file& served);

/// Chooses the coding (RFC 9110 12.5.3), evaluates conditions (13.2.2), then ranges (14.2).
file_response plan_file_response(const request_head& head, const served_file& served,
                                 std::time_t now);

}  // namespace httpd
