#include "document_root.hpp"

#include "compressor.hpp"
#include "examples/httpd/http/characters.hpp"
#include "examples/httpd/http/conditions.hpp"
#include "examples/httpd/http/media_type.hpp"
#include "examples/httpd/http/target.hpp"
#include "examples/httpd/http/wildcards.hpp"

#include <kevring/runtime/operations/open.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/runtime/operations/statx.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <iterator>
#include <span>
#include <system_error>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace httpd {
namespace {

std::int64_t ns_of(const timespec& time) noexcept {
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}
std::int64_t modified_ns(const struct stat& status) noexcept { return ns_of(status.st_mtim); }

// The status for an open(2) that failed. A lookup that would leave the root is answered as for a
// missing file, so that a client learns nothing about the rest of the system.
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

// O_NONBLOCK: opening a named pipe in the tree must not block.
constexpr int open_flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
constexpr std::uint64_t walk_below = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;

// Opens below the root. openat2(2) fails with EAGAIN if a rename races with its lookup; retry.
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

// Whether the file is unchanged.
bool describes(const open_file& known, const struct stat& status) noexcept {
    return status.st_ino == known.inode && status.st_dev == known.device &&
           ns_of(status.st_ctim) == known.changed_ns && modified_ns(status) == known.modified_ns &&
           static_cast<std::uint64_t>(status.st_size) == known.byte_count;
}

std::string read_all(const char* path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

// A file that was modified so recently can change again without a later time stamp: the clock of a
// file system advances with the kernel's timer, every 1 to 10 ms. A time stamp of whole seconds is
// taken for one of a file system that stores only these (FAT: of two).
std::int64_t granularity_ns(std::int64_t modified_ns) noexcept {
    return modified_ns % 1'000'000'000 == 0 ? 2'000'000'000 : 20'000'000;
}

// Archives and reproducible builds set such a time on every version of every file.
bool is_placeholder_time(std::int64_t modified_ns) noexcept { return modified_ns < 2'000'000'000; }

// A file with a placeholder time gets its version from its content, up to this size.
constexpr std::uint64_t hashed_bytes_max = 1 << 20;

// FNV-1a. Nothing if the file cannot be read in full.
kevring::task<std::optional<std::uint64_t>> hash_content(kevring::ring& loop, kevring::fd_ref file,
                                                         std::uint64_t byte_count) {
    constexpr std::size_t part_bytes = 16 * 1024;
    const auto part = std::make_unique<std::array<std::byte, part_bytes>>();
    std::uint64_t hash = 0xcbf29ce484222325;
    for (std::uint64_t offset = 0; offset < byte_count;) {
        kevring::read_operation read(loop, file, std::span(*part), offset);
        const auto count = co_await read;
        if (!count || *count == 0) co_return std::nullopt;
        for (const std::byte byte : std::span(*part).first(*count))
            hash = (hash ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3;
        offset += *count;
    }
    co_return hash;
}

std::int64_t abs_difference(std::int64_t one, std::int64_t other) noexcept {
    return one > other ? one - other : other - one;
}

}  // namespace

document_root::document_root(const std::string& root, root_options options)
    : root_(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)), options_(std::move(options)) {
    if (!root_ || ::faccessat(root_.number(), ".", X_OK, AT_EACCESS) != 0)
        throw std::system_error(errno, std::system_category(), root);
    types_.load(read_all("/etc/mime.types"));
    for (const auto& [extension, type] : options_.media_types) types_.set(extension, type);
}

kevring::task<resource> document_root::find(kevring::ring& loop, std::string_view path) const {
    std::string name(path.size() + 1, '\0');
    const target_name target = parse_target(path, name);
    if (!target) co_return resource(status_of(target.error));
    if (target.hidden && !options_.hidden_files) co_return resource(404);
    const bool wants_directory = target.directory;
    name.resize(target.name.size());

    auto opened = co_await open_below(loop, root_, name.c_str());
    if (!opened) co_return resource(status_of(opened.error()));
    struct stat status{};
    if (!kevring::file_status(loop, *opened, status)) co_return resource(500);
    if (S_ISDIR(status.st_mode)) {
        if (!wants_directory) {
            resource moved(301);
            moved.location = encoded_path(name, true);
            co_return moved;
        }
        const std::size_t directory_bytes = name.size();
        bool found = false;
        for (const std::string& index_name : options_.index_names) {
            name.resize(directory_bytes);
            name.append("/").append(index_name);
            opened = co_await open_below(loop, root_, name.c_str());
            found = opened.has_value();
            if (found) break;
            const bool missing = opened.error() == std::errc::no_such_file_or_directory;
            if (!missing) co_return resource(status_of(opened.error()));
        }
        if (!found) {
            if (!options_.directory_listing) co_return resource(403);
            name.resize(directory_bytes);
            resource listed(200);
            listed.directory = std::move(name);
            co_return listed;
        }
        if (!kevring::file_status(loop, *opened, status)) co_return resource(500);
    } else if (wants_directory) {
        co_return resource(404);  // the name of a file, followed by a slash
    }
    if (!S_ISREG(status.st_mode)) co_return resource(403);
    auto file = std::make_shared<served_file>();
    file->plain.name = std::move(name);
    if (options_.precompressed) co_await find_siblings(loop, *file);
    if (file->available == 0 &&
        may_be_compressed(file->plain.name, static_cast<std::uint64_t>(status.st_size)))
        file->compressible = options_.compressor_codings;
    const bool varies = file->available != 0 || file->compressible != 0;
    file->plain = co_await describe(loop, std::move(*opened), status, std::move(file->plain.name),
                                    content_coding::identity, varies);
    // Without a tag the file may change and keep its times: what is made of it cannot be kept.
    if (file->plain.lines.entity_tag().empty()) file->compressible = 0;
    file->expires_second = file->plain.expires_second;
    for (const content_coding coding :
         {content_coding::zstd, content_coding::br, content_coding::gzip}) {
        auto& sibling = file->compressed[static_cast<std::size_t>(coding)];
        if (!sibling) continue;
        // One that is older than the file was compressed from another version.
        if (!kevring::file_status(loop, sibling->descriptor, status) || !S_ISREG(status.st_mode) ||
            modified_ns(status) < file->plain.modified_ns) {
            file->available &= ~accepted_codings::bit(coding);
            sibling.reset();
            continue;
        }
        *sibling = co_await describe(loop, std::move(sibling->descriptor), status,
                                     std::move(sibling->name), coding, true);
        if (sibling->expires_second != 0 &&
            (file->expires_second == 0 || sibling->expires_second < file->expires_second))
            file->expires_second = sibling->expires_second;
    }
    co_return resource(std::move(file));
}

kevring::task<open_file> document_root::describe(kevring::ring& loop, kevring::fd descriptor,
                                                 const struct stat& status, std::string name,
                                                 content_coding coding, bool varies) const {
    open_file file;
    file.descriptor = std::move(descriptor);
    file.name = std::move(name);
    file.byte_count = static_cast<std::uint64_t>(status.st_size);
    file.modified_ns = modified_ns(status);
    file.changed_ns = ns_of(status.st_ctim);
    file.inode = status.st_ino;
    file.device = status.st_dev;
    file.link_count = status.st_nlink;
    // The type is that of the content: a sibling has the name of its file, and a suffix.
    std::string_view content_name = file.name;
    content_name.remove_suffix(suffix_of(coding).size());
    file.media_type = types_.find(content_name);

    timespec clock{};
    ::clock_gettime(CLOCK_REALTIME_COARSE, &clock);  // the clock of file systems, and of Date
    const std::int64_t now_ns = ns_of(clock);
    const std::int64_t modified_second = file.modified_ns / 1'000'000'000;
    const std::int64_t settles_ns = granularity_ns(file.modified_ns);
    const bool is_future = modified_second > clock.tv_sec;
    const bool is_unsettled = abs_difference(now_ns, file.modified_ns) < settles_ns;
    // RFC 9110 8.8.2.1: Last-Modified is never later than Date.
    const bool is_placeholder = is_placeholder_time(file.modified_ns);
    file.has_date = !is_future && !is_placeholder;
    if (is_future) file.expires_second = static_cast<std::time_t>(modified_second);
    if (is_unsettled)
        file.expires_second =
            static_cast<std::time_t>((file.modified_ns + settles_ns) / 1'000'000'000 + 1);

    auto version = static_cast<std::uint64_t>(file.modified_ns);
    auto kind = entity_tag::strength::strong;
    if (is_placeholder) {
        std::optional<std::uint64_t> hash;
        if (file.byte_count <= hashed_bytes_max)
            hash = co_await hash_content(loop, file.descriptor, file.byte_count);
        if (hash)
            version = *hash;
        else
            kind = entity_tag::strength::weak;  // equal for versions of one size
    }
    const entity_tag tag(version, file.byte_count, name_of(coding), kind);
    std::string own_lines;
    if (options_.lines_for) own_lines = options_.lines_for(content_name, file.media_type);
    file_headers::about about;
    about.media_type = file.media_type;
    about.coding = coding;
    about.byte_count = file.byte_count;
    about.modified_second = file.modified_second();
    if (!is_unsettled) about.entity_tag = tag.text();
    about.varies = varies;
    about.lines = own_lines;
    file.lines = file_headers(about);
    if (file.byte_count > small_body_bytes)
        file.memo = std::make_unique<kevring::file_state_cache>();
    co_return file;
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

bool document_root::may_be_compressed(std::string_view name, std::uint64_t byte_count) const {
    if (options_.compressor_codings == 0 || byte_count < options_.compress_bytes_min ||
        byte_count > options_.compress_bytes_max)
        return false;
    const std::string type(types_.find(name));
    const std::string_view essence = trimmed(std::string_view(type).substr(0, type.find(';')));
    return std::ranges::any_of(options_.compress_types, [&](const std::string& each) {
        return matches_wildcards(each, essence);
    });
}

bool document_root::add_compressed(served_file& file, content_coding coding,
                                   std::shared_ptr<const compressed_content> content) const {
    const unsigned bit = accepted_codings::bit(coding);
    if (!content->file) {  // it would not be smaller
        file.compressible &= ~bit;
        return true;
    }
    auto made = std::make_unique<open_file>();
    made->descriptor = kevring::fd(::fcntl(content->file.number(), F_DUPFD_CLOEXEC, 3));
    if (!made->descriptor) return false;
    made->byte_count = content->byte_count;
    made->modified_ns = file.plain.modified_ns;
    made->has_date = file.plain.has_date;
    made->name = file.plain.name;
    made->media_type = file.plain.media_type;
    std::string tag(file.plain.lines.entity_tag());
    tag.pop_back();
    tag.append("-").append(name_of(coding)).append("-").append(compressor_version(coding));
    tag += '"';
    std::string own_lines;
    if (options_.lines_for) own_lines = options_.lines_for(made->name, made->media_type);
    file_headers::about about;
    about.media_type = made->media_type;
    about.coding = coding;
    about.byte_count = made->byte_count;
    about.modified_second = made->modified_second();
    about.entity_tag = tag;
    about.varies = true;
    about.lines = own_lines;
    made->lines = file_headers(about);
    if (made->byte_count > small_body_bytes)
        made->memo = std::make_unique<kevring::file_state_cache>();
    made->in_memory = std::move(content);
    file.compressed[static_cast<std::size_t>(coding)] = std::move(made);
    file.available |= bit;
    return true;
}

bool document_root::is_current(const served_file& known) const noexcept {
    if (!is_current(known.plain)) return false;
    for (const auto& sibling : known.compressed)
        if (sibling && !sibling->in_memory && !is_current(*sibling)) return false;
    return true;
}

bool document_root::is_current(const open_file& known) const noexcept {
    struct stat status{};
    return ::fstatat(root_.number(), known.name.c_str(), &status, 0) == 0 &&
           describes(known, status);
}

bool document_root::reopen(kevring::ring& loop, served_file& known) const noexcept {
    known.drop_in_memory();
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
