// document_root.hpp: the folder that is served: paths in, open files out.
#pragma once

#include "examples/httpd/http/accept_encoding.hpp"
#include "examples/httpd/http/media_type.hpp"
#include "file_headers.hpp"

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/sendfile/send_options.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

struct stat;

namespace httpd {

/// A body up to here is read behind its head, and both go out in one send.
inline constexpr std::uint64_t small_body_bytes = 32 * 1024;

/// An open file and what a response says of it.
struct open_file {
    // What each response needs comes first, side by side: where many files are asked for in turn,
    // each line of memory has to be fetched.
    kevring::fd descriptor;
    std::uint64_t byte_count = 0;
    file_headers lines;
    std::int64_t modified_ns = 0;                     // since 1970
    std::unique_ptr<kevring::file_state_cache> memo;  // for what is not sent from memory
    std::string name;                                 // below the root
    std::int64_t changed_ns = 0;                      // its bytes or its attributes, since 1970
    std::uint64_t inode = 0;
    std::uint64_t device = 0;
    std::uint64_t link_count = 0;
    std::string_view media_type;

    std::int64_t modified_second() const noexcept { return modified_ns / 1'000'000'000; }
};

/// A file and the compressed siblings that stand beside it. Shared by the cache and by the
/// responses that send from it.
struct served_file {
    unsigned available = 0;  // bits of accepted_codings
    bool watched = false;    // changes are heard of; else each use is preceded by a look
    open_file plain;
    // By content_coding: zstd, br, gzip. Null where there is none.
    std::array<std::unique_ptr<open_file>, 3> compressed;

    const open_file& variant(content_coding coding) const noexcept {
        return coding == content_coding::identity ? plain
                                                  : *compressed[static_cast<std::size_t>(coding)];
    }
    bool is_open() const noexcept { return plain.descriptor.valid(); }
    void close() noexcept {
        plain.descriptor.reset();
        for (auto& sibling : compressed)
            if (sibling) sibling->descriptor.reset();
    }
};

/// What a path leads to.
struct resource {
    explicit resource(unsigned refused_with) noexcept : status(refused_with) {}
    explicit resource(std::shared_ptr<served_file> found) noexcept
        : status(200), file(std::move(found)) {}
    explicit resource(std::string moved_to) noexcept : status(301), location(std::move(moved_to)) {}

    unsigned status;
    std::shared_ptr<served_file> file;
    std::string location;
    std::string page;  // made for a folder; empty: there is none
};

/// Lifetime   Outlives every find().
/// Thread     Any: it is constant.
class document_root {
public:
    /// Errors     Throws std::system_error when `root` cannot be opened as a folder.
    /// `precompressed`: looks for FILE.zst, FILE.br and FILE.gz beside each file. `listing`:
    /// a folder without index.html has a page.
    document_root(const std::string& root, bool precompressed, bool listing);

    /// Opens what `path`, the path of a request, names. The kernel keeps the walk below the root,
    /// whatever links it meets (openat2(2), RESOLVE_BENEATH).
    ///
    /// Lifetime   `path` stays valid until the await ends.
    kevring::task<resource> find(kevring::ring& loop, std::string_view path) const;

    /// True while the name of `known` still leads to the same file, unchanged.
    bool is_current(const served_file& known) const noexcept;
    /// Opens `known`, which was closed. False where its name leads to another file now, or where
    /// the kernel would have to read a folder for it: then find() is asked, which holds no loop up.
    bool reopen(kevring::ring& loop, served_file& known) const noexcept;

    kevring::fd_ref root() const noexcept { return root_; }

private:
    kevring::task<resource> list(kevring::ring& loop, std::string name) const;
    kevring::task<void> find_siblings(kevring::ring& loop, served_file& file) const;
    bool is_current(const open_file& known) const noexcept;
    bool reopen(kevring::kernel& system, open_file& known) const noexcept;

    kevring::fd root_;
    media_types types_;
    bool precompressed_;
    bool listing_;
};

}  // namespace httpd
