#include "site.hpp"

#include "http_date.hpp"
#include "media_type.hpp"
#include "target.hpp"

#include <kevring/runtime/operations/open.hpp>
#include <kevring/runtime/operations/statx.hpp>

#include <cerrno>
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

constexpr std::string_view index_name = "index.html";

std::int64_t modified_ns(const struct stat& status) noexcept {
    return std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
}

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

// Opens below the root. openat2(2) gives up when a rename crosses its walk; it is asked again.
kevring::task<kevring::result<kevring::fd>> open_below(kevring::ring& on, kevring::fd_ref root,
                                                       const char* path) {
    constexpr int attempt_count_max = 8;
    for (int attempt = 0;; ++attempt) {
        // O_NONBLOCK: a named pipe in the tree must not hold up whoever opens it.
        kevring::open_operation open(on, root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0,
                                     RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
        auto opened = co_await open;
        if (opened || opened.error().value() != EAGAIN || attempt == attempt_count_max)
            co_return opened;
    }
}

std::string read_all(const char* path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::string quoted_hex(std::uint64_t a, std::uint64_t b, std::uint64_t c) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text = "\"";
    for (const std::uint64_t number : {a, b, c}) {
        if (text.size() > 1) text += '-';
        int shift = 60;
        while (shift > 0 && (number >> shift) == 0) shift -= 4;
        for (; shift >= 0; shift -= 4) text += digits[(number >> shift) & 15];
    }
    text += '"';
    return text;
}

std::shared_ptr<const open_file> describe(kevring::fd descriptor, const struct stat& status,
                                          std::string name, const media_types& types) {
    auto file = std::make_shared<open_file>();
    file->name = std::move(name);
    file->descriptor = std::move(descriptor);
    file->byte_count = static_cast<std::uint64_t>(status.st_size);
    file->modified_ns = modified_ns(status);
    file->inode = status.st_ino;
    file->device = status.st_dev;
    // Nanoseconds, length and inode: two states of a file that a client could see have two tags.
    file->entity_tag =
        quoted_hex(static_cast<std::uint64_t>(file->modified_ns), file->byte_count, file->inode);
    file->last_modified.resize(http_date_bytes);
    write_http_date(status.st_mtim.tv_sec,
                    std::span<char, http_date_bytes>(file->last_modified.data(), http_date_bytes));
    file->media_type = types.of(file->name);
    file->fields = "Content-Type: " + std::string(file->media_type) +
                   "\r\nContent-Length: " + std::to_string(file->byte_count) +
                   "\r\nLast-Modified: " + file->last_modified + "\r\nETag: " + file->entity_tag +
                   "\r\nAccept-Ranges: bytes\r\n";
    return file;
}

}  // namespace

site::site(const std::string& root)
    : root_(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)) {
    if (!root_) throw std::system_error(errno, std::system_category(), "--root " + root);
    types_.load(read_all("/etc/mime.types"));
}

kevring::task<resource> site::find(kevring::ring& on, std::string_view path) const {
    std::string name(path.size() + 1, '\0');
    const target_name target = read_target(path, name);
    if (!target) co_return resource(status_of(target.error));
    const bool asks_folder = target.folder;
    name.resize(target.name.size());

    auto opened = co_await open_below(on, root_, name.c_str());
    if (!opened) co_return resource(status_of(opened.error()));
    struct stat status{};
    if (!kevring::file_status(on, *opened, status)) co_return resource(500);
    if (S_ISDIR(status.st_mode)) {
        if (!asks_folder) {
            // "//host/x" would lead to another host.
            while (path.starts_with("//")) path.remove_prefix(1);
            co_return resource(std::string(path) + '/');
        }
        name += '/';
        name += index_name;
        opened = co_await open_below(on, root_, name.c_str());
        if (!opened) {
            const bool missing = opened.error() == std::errc::no_such_file_or_directory;
            co_return resource(missing ? 403 : status_of(opened.error()));  // no listing
        }
        if (!kevring::file_status(on, *opened, status)) co_return resource(500);
    } else if (asks_folder) {
        co_return resource(404);  // a file's name with a slash behind it names nothing
    }
    if (!S_ISREG(status.st_mode)) co_return resource(403);
    co_return resource(describe(std::move(*opened), status, std::move(name), types_));
}

bool site::is_current(const open_file& known) const noexcept {
    struct stat status{};
    if (::fstatat(root_.number(), known.name.c_str(), &status, 0) != 0) return false;
    return status.st_ino == known.inode && status.st_dev == known.device &&
           modified_ns(status) == known.modified_ns &&
           static_cast<std::uint64_t>(status.st_size) == known.byte_count;
}

}  // namespace httpd
