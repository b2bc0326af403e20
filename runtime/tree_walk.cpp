#include <kevring/runtime/tree_walk.hpp>

#include <kevring/runtime/detail/directory_levels.hpp>
#include <kevring/runtime/detail/file_type.hpp>
#include <kevring/runtime/file_kernel.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/thread_pool.hpp>

#include <cerrno>
#include <stop_token>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>

namespace kevring {

class tree_walk::state {
public:
    state(ring& loop, fd_ref directory, std::string_view path, const walk_options& options)
        : system_(file_kernel::chosen_by(loop)),
          directory_(directory),
          root_(detail::root_path(path)),
          options_(options),
          levels_(system_, options.descriptor_count_max) {
        if (options_.batch_entry_count == 0) options_.batch_entry_count = 1;
    }

    // On a thread of the pool. The entries that were found before a failure are returned first.
    result<std::vector<walk_entry>> fill(const std::stop_token& stop) {
        std::vector<walk_entry> batch;
        if (error_ == 0 && !begun_) {
            error_ = levels_.enter(directory_.number(), root_.c_str());
            if (error_ == -ELOOP) error_ = -ENOTDIR;
            begun_ = error_ == 0;
            if (!begun_) return error_from(std::exchange(error_, 0));
        }
        while (error_ == 0 && levels_.depth() != 0 && !stop.stop_requested() &&
               batch.size() < options_.batch_entry_count)
            step(batch);
        if (!batch.empty()) return batch;
        if (error_ != 0) return error_from(error_);
        if (levels_.depth() != 0) return error_from(std::errc::operation_canceled);
        return batch;
    }

    std::vector<walk_entry> taken;  // the batch of next()
    std::size_t taken_count = 0;

private:
    void step(std::vector<walk_entry>& batch) {
        detail::listed_entry listed;
        const int found = levels_.next(listed);
        if (found > 0) {
            batch.push_back(reported(listed));
            return;
        }
        if (found < 0) {
            walk_entry& failed = batch.emplace_back();
            failed.path = path_.empty() ? "." : path_.substr(0, path_.size() - 1);
            failed.type = file_type::directory;
            failed.depth = levels_.depth() - 1;
            failed.error = std::error_code(-found, std::system_category());
        }
        error_ = levels_.leave();
        if (path_.empty()) return;
        path_.pop_back();
        path_.resize(path_.rfind('/') + 1);  // npos + 1 is 0
    }

    walk_entry reported(const detail::listed_entry& listed) {
        walk_entry entry;
        entry.path = path_ + listed.name;
        entry.type = detail::type_from_entry(listed.type);
        entry.inode = listed.inode;
        entry.depth = levels_.depth();
        if (entry.type == file_type::unknown) {
            struct statx status{};
            const int answer = system_.status_at(levels_.current(), listed.name,
                                                 AT_SYMLINK_NOFOLLOW, STATX_TYPE, status);
            if (answer == 0) entry.type = detail::type_from_mode(status.stx_mode);
        }
        if (entry.type != file_type::directory || entry.depth >= options_.depth_max ||
            (options_.filter != nullptr && !options_.filter->enters(entry)))
            return entry;
        const int answer = levels_.enter(levels_.current(), listed.name);
        entry.entered = answer == 0;
        if (entry.entered)
            path_ = entry.path + '/';
        else
            entry.error = std::error_code(-answer, std::system_category());
        return entry;
    }

    // Constant after construction.
    file_kernel& system_;
    const fd_ref directory_;
    const std::string root_;
    walk_options options_;

    // Written by one job of the pool at a time.
    detail::directory_levels levels_;
    std::string path_;  // of the current directory, with a slash behind it; empty for the root
    bool begun_ = false;
    int error_ = 0;
};

tree_walk::tree_walk(ring& loop, fd_ref directory, std::string_view path,
                     const walk_options& options)
    : state_(std::make_unique<state>(loop, directory, path, options)) {}
tree_walk::tree_walk(tree_walk&& other) noexcept = default;
tree_walk& tree_walk::operator=(tree_walk&& other) noexcept = default;
tree_walk::~tree_walk() = default;

task<result<std::vector<walk_entry>>> tree_walk::next_batch() {
    state& walk = *state_;
    auto fill = [&walk](const std::stop_token& stop) { return walk.fill(stop); };
    const cancel_scope& scope = co_await current_scope();
    auto filled = co_await blocking(fill);
    // A walk that a stop has ended reports operation_canceled, whichever the cause.
    if (!filled && filled.error() == std::errc::operation_canceled && scope.stop_requested())
        co_return error_from(detail::errc_of(scope.cause()));
    co_return filled;
}

task<result<std::optional<walk_entry>>> tree_walk::next() {
    state& walk = *state_;
    if (walk.taken_count == walk.taken.size()) {
        auto batch = co_await next_batch();
        if (!batch) co_return tl::unexpected<std::error_code>(batch.error());
        walk.taken = std::move(*batch);
        walk.taken_count = 0;
        if (walk.taken.empty()) co_return std::optional<walk_entry>();
    }
    co_return std::optional<walk_entry>(std::move(walk.taken[walk.taken_count++]));
}

}  // namespace kevring
