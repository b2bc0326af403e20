// site.hpp: the folder that is served: paths in, open files out.
#pragma once

#include "media_type.hpp"

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

struct stat;

namespace httpd {

/// An open file and what a response says of it. Shared by the cache and the responses that send it.
struct open_file {
    kevring::fd descriptor;
    std::string name;  // below the root
    std::uint64_t byte_count = 0;
    std::int64_t modified_ns = 0;  // since 1970
    std::uint64_t inode = 0;
    std::uint64_t device = 0;
    std::string entity_tag;     // with its quotes
    std::string last_modified;  // as HTTP writes a time
    std::string_view media_type;
    std::string fields;  // the lines of a 200 that only the file decides
};

/// What a path leads to.
struct resource {
    explicit resource(unsigned refused_with) noexcept : status(refused_with) {}
    explicit resource(std::shared_ptr<const open_file> found) noexcept
        : status(200), file(std::move(found)) {}
    explicit resource(std::string moved_to) noexcept : status(301), location(std::move(moved_to)) {}

    unsigned status;
    std::shared_ptr<const open_file> file;
    std::string location;
};

/// Lifetime   Outlives every find().
/// Thread     Any: it is constant.
class site {
public:
    /// Errors     Throws std::system_error when `root` cannot be opened as a folder.
    explicit site(const std::string& root);

    /// Opens what `path`, the path of a request, names. The kernel keeps the walk below the root,
    /// whatever links it meets (openat2(2), RESOLVE_BENEATH).
    ///
    /// Lifetime   `path` stays valid until the await ends.
    kevring::task<resource> find(kevring::ring& on, std::string_view path) const;

    /// True while the name of `known` still leads to the same file, unchanged.
    bool is_current(const open_file& known) const noexcept;

    kevring::fd_ref root() const noexcept { return root_; }

private:
    kevring::fd root_;
    media_types types_;
};

}  // namespace httpd
