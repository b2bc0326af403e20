// request_head.hpp: the head of a request, as views into the received bytes.
//
// Filled by request_parser. It holds offsets of 16 bits, not pointers: 128 bytes for a head of up
// to 40 KiB, and a buffer that moves takes its head along by rebase().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace httpd {

/// The methods of RFC 9110 and PATCH. `unknown` is a token that is none of them.
enum class request_method : std::uint8_t {
    unknown,
    get,
    head,
    post,
    put,
    delete_,
    connect,
    options,
    trace,
    patch
};

/// How the target was written (RFC 9112 3.2).
enum class target_form : std::uint8_t {
    origin,     ///< /path?query
    absolute,   ///< http://host/path?query
    authority,  ///< host:port, of CONNECT only
    asterisk    ///< *, of OPTIONS only
};

enum class expectation : std::uint8_t {
    none,
    continue_100,  ///< the client waits for 100 (Continue) before its body
    unsupported    ///< anything else: to be answered by 417
};

/// The fields that the server reads. Others are checked for their form and ignored.
enum class known_field : std::uint8_t {
    host,
    connection,
    content_length,
    transfer_encoding,
    expect,
    range,
    if_match,
    if_none_match,
    if_modified_since,
    if_unmodified_since,
    if_range,
    accept_encoding,
    accept,
    user_agent,
    referer,
    origin,
    authorization,
    forwarded_for  ///< X-Forwarded-For
};
inline constexpr std::size_t known_field_count = 18;

/// A checked request head.
///
/// Lifetime   Views point into the buffer last given to the parser, or to rebase().
class request_head {
public:
    request_method method() const noexcept { return method_; }
    std::string_view method_name() const noexcept { return view(method_name_); }

    /// The first line without its end, as received; for the log, also when it was refused.
    std::string_view request_line() const noexcept { return view(line_); }

    target_form form() const noexcept { return form_; }
    std::string_view target() const noexcept { return view(target_); }

    /// The path, still percent-encoded. Begins with '/', or is "*" in the asterisk form, or is
    /// empty in the authority form.
    std::string_view path() const noexcept {
        return path_.size == 0 && form_ != target_form::authority ? "/" : view(path_);
    }
    /// The text after the '?'.
    std::string_view query() const noexcept { return view(query_); }
    bool has_query() const noexcept { return has_query_; }

    /// Host and port that the request is for: those of an absolute target, else of Host; may be
    /// empty in HTTP/1.0.
    std::string_view authority() const noexcept {
        return authority_.size != 0 ? view(authority_) : text(known_field::host);
    }

    /// 0 or 1, of HTTP/1.x; a higher minor version is read as 1 (RFC 9110 2.5).
    unsigned minor_version() const noexcept { return minor_version_; }

    /// Whether the client's side allows a further request on the connection.
    bool keep_alive() const noexcept {
        return !connection_close_ && (minor_version_ != 0 || connection_keep_alive_);
    }

    bool chunked() const noexcept { return chunked_; }
    /// The value of Content-Length, if there was one.
    std::optional<std::uint64_t> content_length() const noexcept {
        if (!has(known_field::content_length)) return std::nullopt;
        return content_length_;
    }
    /// Whether bytes of a body follow the head.
    bool has_body() const noexcept { return chunked_ || content_length_ != 0; }

    expectation expects() const noexcept { return expectation_; }

    bool has(known_field field) const noexcept { return (present_ & bit(field)) != 0; }
    /// Whether the field came in more than one line.
    bool repeated(known_field field) const noexcept { return (repeated_ & bit(field)) != 0; }

    /// The value of the field's first line, without blanks around it; empty when there is none.
    std::string_view text(known_field field) const noexcept {
        return view(values_[static_cast<std::size_t>(field)]);
    }

    /// The value of a field that has one line at most; nothing when it is absent, or repeated and
    /// therefore invalid.
    std::optional<std::string_view> single(known_field field) const noexcept {
        if (!has(field) || repeated(field)) return std::nullopt;
        return text(field);
    }

    /// The value of a list field: its lines joined by ", " in `scratch` when there are several.
    ///
    /// Result     Nothing when the field is absent, or when `scratch` is too small.
    /// Lifetime   The view points into the head, or into `scratch`.
    std::optional<std::string_view> list(known_field field, std::span<char> scratch) const noexcept;

    /// The bytes of the head, its closing empty line included: where the body, or the next
    /// request, begins.
    std::size_t size() const noexcept { return size_; }

    /// The buffer has moved: its bytes now begin at `base`.
    void rebase(const char* base) noexcept { base_ = base; }

private:
    friend class request_parser;

    struct slice {
        std::uint16_t first = 0;
        std::uint16_t size = 0;
    };

    static constexpr std::uint32_t bit(known_field field) noexcept {
        return 1U << static_cast<unsigned>(field);
    }
    std::string_view view(slice part) const noexcept { return {base_ + part.first, part.size}; }

    static constexpr slice slice_of(std::size_t first, std::size_t last) noexcept {
        return {static_cast<std::uint16_t>(first), static_cast<std::uint16_t>(last - first)};
    }

    const char* base_ = "";
    std::uint64_t content_length_ = 0;
    std::uint16_t size_ = 0;
    std::uint16_t fields_first_ = 0;  // where the field lines begin
    std::uint32_t present_ = 0;
    std::uint32_t repeated_ = 0;
    slice line_;
    slice method_name_;
    slice target_;
    slice path_;
    slice query_;
    slice authority_;
    std::array<slice, known_field_count> values_{};
    request_method method_ = request_method::unknown;
    target_form form_ = target_form::origin;
    expectation expectation_ = expectation::none;
    std::uint8_t minor_version_ = 1;
    bool has_query_ = false;
    bool chunked_ = false;
    bool connection_close_ = false;
    bool connection_keep_alive_ = false;
};

static_assert(known_field_count <= 32, "present_ and repeated_ have 32 bits");

}  // namespace httpd
