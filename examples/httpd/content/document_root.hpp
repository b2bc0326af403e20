// document_root.hpp: the directory that is served: from the path of a request to an open file.
#pragma once

#include "compression_service.hpp"
#include "examples/httpd/http/accept_encoding.hpp"
#include "examples/httpd/http/conditions.hpp"
#include "examples/httpd/http/media_type.hpp"
#include "file_headers.hpp"

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/sendfile/send_options.hpp>

#include <array>
#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct stat;

namespace httpd {

/// A body of at most this size is read after its head, and both are sent in one call.
inline constexpr std::uint64_t small_body_bytes = 32 * 1024;

/// An open file and the field lines of its responses.
struct open_file {
    // First the members that each response needs: if many files are requested alternately, each
    // line of memory has to be fetched.
    kevring::fd descriptor;
    std::uint64_t byte_count = 0;
    file_headers lines;
    std::int64_t modified_ns = 0;                     // since 1970
    std::unique_ptr<kevring::file_state_cache> memo;  // null for a file that is sent from memory
    std::string name;                                 // below the root
    std::int64_t changed_ns = 0;                      // of content or attributes, since 1970
    std::uint64_t inode = 0;
    std::uint64_t device = 0;
    std::uint64_t link_count = 0;
    std::string media_type;
    bool has_date = true;  // Last-Modified is sent
    // The second from which `lines` are to be built again; 0: never. A file that was modified in
    // the future, or a moment ago, has other validators later.
    std::time_t expires_second = 0;
    // Of a file in memory that compression has made: holds it. Null for a file below the root.
    std::shared_ptr<const compressed_content> in_memory;

    std::optional<std::int64_t> modified_second() const noexcept {
        if (!has_date) return std::nullopt;
        return modified_ns / 1'000'000'000;
    }
    validators current_validators() const noexcept {
        return {.entity_tag = lines.entity_tag(), .modified_second = modified_second()};
    }
};

/// A file and its precompressed siblings. Shared by the cache and by the responses that send it.
struct served_file {
    unsigned available = 0;     // bits of accepted_codings
    unsigned compressible = 0;  // bits of codings that can be made when they are asked for
    bool watched = false;       // the loop is notified of changes; otherwise each use checks first
    open_file plain;
    // By content_coding: zstd, br, gzip. Null if there is none.
    std::array<std::unique_ptr<open_file>, 3> compressed;

    const open_file& variant(content_coding coding) const noexcept {
        return coding == content_coding::identity ? plain
                                                  : *compressed[static_cast<std::size_t>(coding)];
    }
    bool is_open() const noexcept { return plain.descriptor.valid(); }
    bool is_expired(std::time_t now) const noexcept {
        return expires_second != 0 && now >= expires_second;
    }
    void close() noexcept {
        plain.descriptor.reset();
        for (auto& sibling : compressed)
            if (sibling) sibling->descriptor.reset();
        drop_in_memory();
    }
    /// Drops the files that compression has made; they are found again by the service.
    void drop_in_memory() noexcept {
        for (std::size_t index = 0; index < compressed.size(); ++index) {
            if (!compressed[index] || !compressed[index]->in_memory) continue;
            available &= ~accepted_codings::bit(static_cast<content_coding>(index));
            compressed[index].reset();
        }
    }

    std::time_t expires_second = 0;  // the first of its files; 0: never
};

/// The result of a lookup: a file, a directory to list, a redirection or an error status.
struct resource {
    explicit resource(unsigned error) noexcept : status(error) {}
    explicit resource(std::shared_ptr<served_file> found) noexcept
        : status(200), file(std::move(found)) {}

    unsigned status;
    std::shared_ptr<served_file> file;
    std::string location;   // of a 301: an absolute path, percent-encoded
    std::string directory;  // its name below the root, for a page; empty: none
};

/// How a root is served.
struct root_options {
    bool precompressed = false;                    // look for FILE.zst, FILE.br and FILE.gz
    bool directory_listing = false;                // a directory without index file has a page
    bool hidden_files = false;                     // serve names that begin with a dot
    unsigned compressor_codings = 0;               // that may be made, as bits; 0: none
    std::vector<std::string> compress_types = {};  // with *
    std::uint64_t compress_bytes_min = 0;
    std::uint64_t compress_bytes_max = 0;
    std::vector<std::string> index_names{"index.html"};
    std::vector<std::pair<std::string, std::string>> media_types = {};  // extension and type
    /// Field lines for a file with this name below the root and this type; may be null.
    std::function<std::string(std::string_view name, std::string_view media_type)> lines_for =
        nullptr;
};

/// Lifetime   Outlives every find().
/// Thread     Any: it is constant.
class document_root {
public:
    /// Errors     Throws std::system_error if `root` cannot be opened as a directory, or entered.
    explicit document_root(const std::string& root, root_options options = {});

    /// Opens the file that the path of a request names. The kernel keeps the lookup below the root,
    /// whatever links it meets (openat2(2), RESOLVE_BENEATH); an absolute link is not followed,
    /// even into the root, because its text names a path outside of it.
    ///
    /// Lifetime   `path` stays valid until the await completes.
    kevring::task<resource> find(kevring::ring& loop, std::string_view path) const;

    /// Adds a file that was compressed from `file.plain`. It has an entity tag of its own, which
    /// names the library's version, because another one may write other bytes.
    ///
    /// Result     False if no descriptor is left.
    bool add_compressed(served_file& file, content_coding coding,
                        std::shared_ptr<const compressed_content> content) const;

    /// True while the name of `known` still leads to the same file, unchanged.
    bool is_current(const served_file& known) const noexcept;
    /// Opens `known`, which was closed. False if its name leads to another file now, or if the
    /// kernel would have to read a directory for it: find() does that without blocking the loop.
    bool reopen(kevring::ring& loop, served_file& known) const noexcept;

    kevring::fd_ref root() const noexcept { return root_; }
    const root_options& options() const noexcept { return options_; }

private:
    kevring::task<void> find_siblings(kevring::ring& loop, served_file& file) const;
    kevring::task<open_file> describe(kevring::ring& loop, kevring::fd descriptor,
                                      const struct stat& status, std::string name,
                                      content_coding coding, bool varies) const;
    bool may_be_compressed(std::string_view name, std::uint64_t byte_count) const;
    bool is_current(const open_file& known) const noexcept;
    bool reopen(kevring::kernel& system, open_file& known) const noexcept;

    kevring::fd root_;
    media_types types_;
    root_options options_;
};

}  // namespace httpd
