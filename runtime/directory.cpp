#include <kevring/runtime/directory.hpp>

#include <kevring/runtime/detail/file_copier.hpp>
#include <kevring/runtime/detail/file_type.hpp>
#include <kevring/runtime/detail/tree_copier.hpp>
#include <kevring/runtime/detail/tree_removal.hpp>
#include <kevring/runtime/file_kernel.hpp>
#include <kevring/runtime/operations/path.hpp>
#include <kevring/runtime/operations/statx.hpp>
#include <kevring/runtime/shield.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/thread_pool.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <stop_token>

#include <fcntl.h>
#include <linux/limits.h>
#include <sys/stat.h>

namespace kevring {
namespace {

using failure = tl::unexpected<std::error_code>;

constexpr std::size_t removal_step_entries = 512;
constexpr std::size_t copy_step_bytes = 16 * 1024 * 1024;
constexpr std::chrono::seconds cleanup_limit{60};

result<void> done_or_error(std::int64_t answer) noexcept {
    if (answer < 0) return error_from(static_cast<std::int32_t>(answer));
    return {};
}

// A job that a stop has ended reports operation_canceled, whichever the cause.
std::error_code cause_of(const std::error_code& error, const cancel_scope& scope) noexcept {
    if (error != std::errc::operation_canceled || !scope.stop_requested()) return error;
    return std::make_error_code(detail::errc_of(scope.cause()));
}

// Each coroutine below owns its paths: the kernel reads them until the request completes.

task<result<fd>> open_owned(ring& loop, fd_ref directory, std::string path, open_options options) {
    open_operation request = open_file(loop, directory, path.c_str(), options);
    co_return co_await request;
}

task<result<file>> open_file_owned(ring& loop, fd_ref directory, std::string path,
                                   open_options options) {
    open_operation request = open_file(loop, directory, path.c_str(), options);
    auto opened = co_await request;
    if (!opened) co_return failure(opened.error());
    co_return file(loop, std::move(*opened));
}

task<result<directory>> open_directory_owned(ring& loop, fd_ref parent, std::string path) {
    open_options options;
    options.directory = true;
    open_operation request = open_file(loop, parent, path.c_str(), options);
    auto opened = co_await request;
    if (!opened) co_return failure(opened.error());
    co_return directory(loop, std::move(*opened));
}

task<result<std::string>> read_file_owned(ring& loop, fd_ref directory, std::string path,
                                          std::size_t byte_count_max) {
    open_operation request = open_file(loop, directory, path.c_str());
    auto opened = co_await request;
    if (!opened) co_return failure(opened.error());
    const file source(loop, std::move(*opened));
    co_return co_await source.read_all(byte_count_max, file_position);
}

task<result<void>> status_owned(ring& loop, fd_ref directory, std::string path,
                                struct statx& status, unsigned mask, int flags) {
    statx_operation request(loop, directory, path.c_str(), flags, mask, status);
    co_return co_await request;
}

task<result<std::string>> read_link_owned(ring& loop, fd_ref directory, std::string path) {
    file_kernel& system = file_kernel::chosen_by(loop);
    auto call = [&]() -> result<std::string> {
        std::string content(PATH_MAX, '\0');
        const ssize_t count =
            system.read_link_at(directory.number(), path.c_str(), content.data(), content.size());
        if (count < 0) return error_from(static_cast<std::int32_t>(count));
        content.resize(static_cast<std::size_t>(count));
        return content;
    };
    co_return co_await blocking(call);
}

task<result<void>> rename_owned(ring& loop, fd_ref source_directory, std::string source,
                                fd_ref target_directory, std::string target, unsigned flags) {
    rename_operation request(loop, source_directory, source.c_str(), target_directory,
                             target.c_str(), flags);
    co_return co_await request;
}

task<result<void>> link_owned(ring& loop, fd_ref source_directory, std::string source,
                              fd_ref target_directory, std::string target, int flags) {
    link_operation request(loop, source_directory, source.c_str(), target_directory, target.c_str(),
                           flags);
    co_return co_await request;
}

task<result<void>> symlink_owned(ring& loop, std::string target, fd_ref directory,
                                 std::string path) {
    symlink_operation request(loop, target.c_str(), directory, path.c_str());
    co_return co_await request;
}

task<result<void>> unlink_owned(ring& loop, fd_ref directory, std::string path, int flags) {
    unlink_operation request(loop, directory, path.c_str(), flags);
    co_return co_await request;
}

task<result<void>> make_directory_owned(ring& loop, fd_ref directory, std::string path,
                                        mode_t permissions) {
    make_directory_operation request(loop, directory, path.c_str(), permissions);
    co_return co_await request;
}

// From the left: "a", "a/b", "a/b/c". A null byte ends each in place.
task<result<void>> make_directories_owned(ring& loop, fd_ref directory, std::string path,
                                          mode_t permissions) {
    if (path.empty()) co_return error_from(std::errc::no_such_file_or_directory);
    std::size_t end = 0;
    while (end < path.size()) {
        const std::size_t begin = path.find_first_not_of('/', end);
        if (begin == std::string::npos) break;
        end = std::min(path.find('/', begin), path.size());
        const std::string parent = path.substr(0, end);
        make_directory_operation request(loop, directory, parent.c_str(), permissions);
        const auto made = co_await request;
        if (made) continue;
        // A read-only or foreign directory that exists has other errors than file_exists.
        struct statx found{};
        statx_operation existing(loop, directory, parent.c_str(), 0, STATX_TYPE, found);
        const auto exists = co_await existing;
        if (!exists) co_return failure(made.error());
        if (!S_ISDIR(found.stx_mode)) co_return error_from(std::errc::not_a_directory);
    }
    co_return result<void>();
}

task<result<void>> make_fifo_owned(ring& loop, fd_ref directory, std::string path,
                                   mode_t permissions) {
    file_kernel& system = file_kernel::chosen_by(loop);
    auto call = [&]() -> result<void> {
        return done_or_error(
            system.make_node_at(directory.number(), path.c_str(), S_IFIFO | permissions));
    };
    co_return co_await blocking(call);
}

task<result<std::uint64_t>> remove_tree_owned(ring& loop, fd_ref directory, std::string path) {
    detail::tree_removal removal(file_kernel::chosen_by(loop), directory, path);
    auto step = [&removal](const std::stop_token& stop) {
        return removal.step(removal_step_entries, stop);
    };
    const cancel_scope& scope = co_await current_scope();
    while (true) {
        const auto done = co_await blocking(step);
        if (!done) co_return failure(cause_of(done.error(), scope));
        if (*done) co_return removal.removed_count();
    }
}

// Also after a stop of the scope.
template <class Discard>
task<void> clean_up(Discard& discard) {
    auto call = [&discard] { discard(); };
    auto cleanup = [](decltype(call)& called) -> task<void> {
        static_cast<void>(co_await blocking(called));
    }(call);
    co_await shield(std::move(cleanup), cleanup_limit);
}

task<result<copy_progress>> copy_file_owned(ring& loop, fd_ref source_directory, std::string source,
                                            fd_ref target_directory, std::string target,
                                            copy_options options) {
    detail::file_copier copier(file_kernel::chosen_by(loop));
    copy_progress progress;
    auto begin = [&]() -> result<void> {
        return done_or_error(copier.begin(source_directory.number(), source.c_str(),
                                          target_directory.number(), target.c_str(), options));
    };
    const auto begun = co_await blocking(begin);
    if (!begun) co_return failure(begun.error());
    auto step = [&](const std::stop_token& stop) -> result<void> {
        std::size_t left = copy_step_bytes;
        while (left != 0 && copier.active()) {
            if (stop.stop_requested()) return error_from(std::errc::operation_canceled);
            const ssize_t count = copier.step(left);
            if (count < 0) return done_or_error(count);
            left -= static_cast<std::size_t>(count);
            progress.byte_count += static_cast<std::uint64_t>(count);
        }
        return {};
    };
    const cancel_scope& scope = co_await current_scope();
    while (copier.active()) {
        const auto copied = co_await blocking(step);
        if (!copied) {
            auto discard = [&copier] { copier.discard(); };
            co_await clean_up(discard);
            co_return failure(cause_of(copied.error(), scope));
        }
        if (!copier.active()) progress.file_count = 1;
        if (options.observer != nullptr) options.observer->on_progress(progress);
    }
    co_return progress;
}

task<result<copy_progress>> copy_tree_owned(ring& loop, fd_ref source_directory, std::string source,
                                            fd_ref target_directory, std::string target,
                                            copy_options options) {
    detail::tree_copier copier(file_kernel::chosen_by(loop), source_directory, source,
                               target_directory, target, options);
    auto step = [&copier](const std::stop_token& stop) { return copier.step(stop); };
    const cancel_scope& scope = co_await current_scope();
    while (true) {
        const auto done = co_await blocking(step);
        if (!done) {
            auto discard = [&copier] { copier.discard(); };
            co_await clean_up(discard);
            co_return failure(cause_of(done.error(), scope));
        }
        if (options.observer != nullptr) options.observer->on_progress(copier.progress());
        if (*done) co_return copier.progress();
    }
}

}  // namespace

class directory_stream::state {
public:
    state(file_kernel& system, fd opened) : opened_(std::move(opened)), levels_(system, 2) {}

    // On a thread of the pool.
    result<std::vector<directory_entry>> next_batch() {
        if (!begun_) {
            const int answer = levels_.enter(opened_.number(), ".");
            if (answer < 0) return error_from(answer);
            begun_ = true;
        }
        std::vector<directory_entry> batch;
        detail::listed_entry listed;
        while (batch.size() < entry_count_max) {
            const int found = levels_.next(listed);
            if (found < 0 && batch.empty()) return error_from(found);
            if (found <= 0) break;  // an error comes again in the next call
            batch.push_back(
                directory_entry{listed.name, detail::type_from_entry(listed.type), listed.inode});
        }
        return batch;
    }

private:
    static constexpr std::size_t entry_count_max = 1024;

    const fd opened_;
    detail::directory_levels levels_;
    bool begun_ = false;
};

directory_stream::directory_stream(std::unique_ptr<state> opened) noexcept
    : state_(std::move(opened)) {}
directory_stream::directory_stream(directory_stream&& other) noexcept = default;
directory_stream& directory_stream::operator=(directory_stream&& other) noexcept = default;
directory_stream::~directory_stream() = default;

task<result<std::vector<directory_entry>>> directory_stream::next_batch() {
    state& listing = *state_;
    auto call = [&listing] { return listing.next_batch(); };
    co_return co_await blocking(call);
}

fd_ref directory::native() const noexcept { return opened_ ? fd_ref(opened_) : fd_ref(AT_FDCWD); }

task<result<file>> directory::open_file(std::string_view path, const open_options& options) const {
    return open_file_owned(*ring_, native(), std::string(path), options);
}

task<result<directory>> directory::open_directory(std::string_view path) const {
    return open_directory_owned(*ring_, native(), std::string(path));
}

task<result<std::string>> directory::read_file(std::string_view path,
                                               std::size_t byte_count_max) const {
    return read_file_owned(*ring_, native(), std::string(path), byte_count_max);
}

task<result<void>> directory::status(std::string_view path, struct statx& status, unsigned mask,
                                     int flags) const {
    return status_owned(*ring_, native(), std::string(path), status, mask, flags);
}

task<result<std::string>> directory::read_link(std::string_view path) const {
    return read_link_owned(*ring_, native(), std::string(path));
}

task<result<void>> directory::rename(std::string_view source, const directory& target_directory,
                                     std::string_view target, unsigned flags) const {
    return rename_owned(*ring_, native(), std::string(source), target_directory.native(),
                        std::string(target), flags);
}

task<result<void>> directory::link(std::string_view source, const directory& target_directory,
                                   std::string_view target, int flags) const {
    return link_owned(*ring_, native(), std::string(source), target_directory.native(),
                      std::string(target), flags);
}

task<result<void>> directory::symlink(std::string_view target, std::string_view path) const {
    return symlink_owned(*ring_, std::string(target), native(), std::string(path));
}

task<result<void>> directory::remove_file(std::string_view path) const {
    return unlink_owned(*ring_, native(), std::string(path), 0);
}

task<result<void>> directory::remove_directory(std::string_view path) const {
    return unlink_owned(*ring_, native(), std::string(path), AT_REMOVEDIR);
}

task<result<void>> directory::make_directory(std::string_view path, mode_t permissions) const {
    return make_directory_owned(*ring_, native(), std::string(path), permissions);
}

task<result<void>> directory::make_directories(std::string_view path, mode_t permissions) const {
    return make_directories_owned(*ring_, native(), std::string(path), permissions);
}

task<result<void>> directory::make_fifo(std::string_view path, mode_t permissions) const {
    return make_fifo_owned(*ring_, native(), std::string(path), permissions);
}

task<result<directory_stream>> directory::list(std::string_view path) const {
    auto make = [](ring& loop, task<result<fd>> opening) -> task<result<directory_stream>> {
        auto found = co_await std::move(opening);
        if (!found) co_return failure(found.error());
        co_return directory_stream(std::make_unique<directory_stream::state>(
            file_kernel::chosen_by(loop), std::move(*found)));
    };
    open_options options;
    options.directory = true;
    return make(*ring_, open_owned(*ring_, native(), std::string(path), options));
}

tree_walk directory::walk(std::string_view path, const walk_options& options) const {
    return tree_walk(*ring_, native(), path, options);
}

task<result<std::uint64_t>> directory::remove_tree(std::string_view path) const {
    return remove_tree_owned(*ring_, native(), std::string(path));
}

task<result<copy_progress>> directory::copy_file(std::string_view source,
                                                 const directory& target_directory,
                                                 std::string_view target,
                                                 const copy_options& options) const {
    return copy_file_owned(*ring_, native(), std::string(source), target_directory.native(),
                           std::string(target), options);
}

task<result<copy_progress>> directory::copy_tree(std::string_view source,
                                                 const directory& target_directory,
                                                 std::string_view target,
                                                 const copy_options& options) const {
    return copy_tree_owned(*ring_, native(), std::string(source), target_directory.native(),
                           std::string(target), options);
}

}  // namespace kevring
