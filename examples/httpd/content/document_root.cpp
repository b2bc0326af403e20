#include "document_root.hpp"

#include "directory_reader.hpp"
#include "examples/httpd/http/conditions.hpp"
#include "examples/httpd/http/media_type.hpp"
#include "examples/httpd/http/target.hpp"

#include <kevring/runtime/operations/open.hpp>
#include <kevring/runtime/operations/statx.hpp>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <iterator>
#include <system_error>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace httpd {
namespace {

constexpr std::string_view index_name = "index.html";

std::int64_t ns_of(const timespec& time) noexcept {
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}
std::int64_t modified_ns(const struct stat& status) noexcept { return ns_of(status.st_mtim); }

// What a client is told of an open(2) that failed. Where the walk would leave the root the answer
// is that of a file that is not there: what lies outside is nobody's business.
unsigned status_of(const std::error_code& error) noexcept {
    switch (error.value()) {
        case ENOENT:
        case ENOTDIR:
        case ENAMETOOLONG:
        case ELOOP:
        case EXDEV:
        case EINVAL: return 404;
        case EACCES:
        case EPERM:
        case ENXIO: return 403;
        case EMFILE:
        case ENFILE:
        case ENOMEM:
        case EAGAIN: return 503;
        default: return 500;
    }
}

// O_NONBLOCK: a named pipe in the tree must not hold up whoever opens it.
constexpr int open_flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
constexpr std::uint64_t walk_below = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;

// Opens below the root. openat2(2) gives up when a rename crosses its walk; it is asked again.
kevring::task<kevring::result<kevring::fd>> open_below(kevring::ring& loop, kevring::fd_ref root,
                                                       const char* path) {
    constexpr int attempt_count_max = 8;
    for (int attempt = 0;; ++attempt) {
        kevring::open_operation open(loop, root, path, open_flags, 0, walk_below);
        auto opened = co_await open;
        if (opened || opened.error().value() != EAGAIN || attempt == attempt_count_max)
            co_return opened;
    }
}

// Whether what is known of a file is still so.
bool describes(const open_file& known, const struct stat& status) noexcept {
    return status.st_ino == known.inode && status.st_dev == known.device &&
           ns_of(status.st_ctim) == known.changed_ns && modified_ns(status) == known.modified_ns &&
           static_cast<std::uint64_t>(status.st_size) == known.byte_count;
}

std::string read_all(const char* path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

// A file that was changed just now can be changed again without a later time: the clock of a file
// system moves in steps of a few milliseconds.
constexpr std::int64_t young_ns = 20'000'000;

open_file describe(kevring::fd descriptor, const struct stat& status, std::string name,
                   std::string_view media_type, content_coding coding, bool varies) {
    open_file file;
    file.descriptor = std::move(descriptor);
    file.name = std::move(name);
    file.byte_count = static_cast<std::uint64_t>(status.st_size);
    file.modified_ns = modified_ns(status);
    file.changed_ns = ns_of(status.st_ctim);
    file.inode = status.st_ino;
    file.device = status.st_dev;
    file.link_count = status.st_nlink;
    const std::int64_t age_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
                                    std::chrono::system_clock::now().time_since_epoch())
                                    .count() -
                                file.modified_ns;
    const entity_tag tag(
        file.byte_count, file.modified_ns, file.inode,
        age_ns < young_ns ? entity_tag::strength::weak : entity_tag::strength::strong);
    file.media_type = media_type;
    file.lines = file_headers({.media_type = media_type,
                               .coding = coding,
                               .byte_count = file.byte_count,
                               .modified_second = file.modified_second(),
                               .entity_tag = tag.text(),
                               .varies = varies});
    if (file.byte_count > small_body_bytes)
        file.memo = std::make_unique<kevring::file_state_cache>();
    return file;
}

}  // namespace

document_root::document_root(const std::string& root, bool precompressed, bool listing)
    : root_(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
      precompressed_(precompressed),
      listing_(listing) {
    if (!root_) throw std::system_error(errno, std::system_category(), "--root " + root);
    types_.load(read_all("/etc/mime.types"));
}

kevring::task<resource> document_root::find(kevring::ring& loop, std::string_view path) const {
    std::string name(path.size() + 1, '\0');
    const target_name target = parse_target(path, name);
    if (!target) co_return resource(status_of(target.error));
    const bool wants_directory = target.directory;
    name.resize(target.name.size());

    auto opened = co_await open_below(loop, root_, name.c_str());
    if (!opened) co_return resource(status_of(opened.error()));
    struct stat status{};
    if (!kevring::file_status(loop, *opened, status)) co_return resource(500);
    if (S_ISDIR(status.st_mode)) {
        if (!wants_directory) {
            // "//host/x" would lead to another host.
            while (path.starts_with("//")) path.remove_prefix(1);
            co_return resource(std::string(path) + '/');
        }
        const std::size_t directory_bytes = name.size();
        name += '/';
        name += index_name;
        opened = co_await open_below(loop, root_, name.c_str());
        if (!opened) {
            const bool missing = opened.error() == std::errc::no_such_file_or_directory;
            if (!missing) co_return resource(status_of(opened.error()));
            if (!listing_) co_return resource(403);
            name.resize(directory_bytes);
            co_return co_await list(loop, std::move(name));
        }
        if (!kevring::file_status(loop, *opened, status)) co_return resource(500);
    } else if (wants_directory) {
        co_return resource(404);  // a file's name with a slash behind it names nothing
    }
    if (!S_ISREG(status.st_mode)) co_return resource(403);
    auto file = std::make_shared<served_file>();
    file->plain.name = std::move(name);
    if (precompressed_) co_await find_siblings(loop, *file);
    const std::string_view media_type = types_.find(file->plain.name);
    file->plain = describe(std::move(*opened), status, std::move(file->plain.name), media_type,
                           content_coding::identity, file->available != 0);
    for (const content_coding coding :
         {content_coding::zstd, content_coding::br, content_coding::gzip}) {
        auto& sibling = file->compressed[static_cast<std::size_t>(coding)];
        if (!sibling) continue;
        // One that is older than the file was made of something else.
        if (!kevring::file_status(loop, sibling->descriptor, status) || !S_ISREG(status.st_mode) ||
            modified_ns(status) < file->plain.modified_ns) {
            file->available &= ~accepted_codings::bit(coding);
            sibling.reset();
            continue;
        }
        *sibling = describe(std::move(sibling->descriptor), status, std::move(sibling->name),
                            media_type, coding, true);
    }
    co_return resource(std::move(file));
}

kevring::task<resource> document_root::list(kevring::ring& loop, std::string name) const {
    auto entries = co_await read_directory(loop, root_, name.c_str());
    if (!entries) co_return resource(status_of(entries.error()));
    resource listed(200);
    listed.page = render_directory_listing(name, std::move(*entries));
    co_return listed;
}

kevring::task<void> document_root::find_siblings(kevring::ring& loop, served_file& file) const {
    for (const content_coding coding :
         {content_coding::zstd, content_coding::br, content_coding::gzip}) {
        std::string name = file.plain.name + std::string(suffix_of(coding));
        auto opened = co_await open_below(loop, root_, name.c_str());
        if (!opened) continue;
        auto sibling = std::make_unique<open_file>();
        sibling->descriptor = std::move(*opened);
        sibling->name = std::move(name);
        file.compressed[static_cast<std::size_t>(coding)] = std::move(sibling);
        file.available |= accepted_codings::bit(coding);
    }
}

bool document_root::is_current(const served_file& known) const noexcept {
    if (!is_current(known.plain)) return false;
    for (const auto& sibling : known.compressed)
        if (sibling && !is_current(*sibling)) return false;
    return true;
}

bool document_root::is_current(const open_file& known) const noexcept {
    struct stat status{};
    return ::fstatat(root_.number(), known.name.c_str(), &status, 0) == 0 &&
           describes(known, status);
}

bool document_root::reopen(kevring::ring& loop, served_file& known) const noexcept {
    bool opened = reopen(loop.system(), known.plain);
    for (auto& sibling : known.compressed)
        if (sibling) opened = opened && reopen(loop.system(), *sibling);
    if (!opened) known.close();
    return opened;
}

bool document_root::reopen(kevring::kernel& system, open_file& known) const noexcept {
    open_how how{};
    how.flags = open_flags | O_CLOEXEC;
    how.resolve = walk_below | RESOLVE_CACHED;
    known.descriptor.reset(system.open_at(root_.number(), known.name.c_str(), how));
    struct stat status{};
    return known.descriptor && system.stat_file(known.descriptor.number(), status) == 0 &&
           describes(known, status);
}

}  // namespace httpd
