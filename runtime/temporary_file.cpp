#include <kevring/runtime/temporary_file.hpp>

#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/detail/temporary_name.hpp>
#include <kevring/runtime/detail/tree_removal.hpp>
#include <kevring/runtime/file_kernel.hpp>
#include <kevring/runtime/operations/path.hpp>
#include <kevring/runtime/thread_pool.hpp>

#include <cerrno>
#include <limits>
#include <memory>
#include <new>
#include <utility>

#include <fcntl.h>

namespace kevring {
namespace {

using failure = tl::unexpected<std::error_code>;

// A removal that no coroutine waits for.
struct removal_job : detail::pool_job {
    removal_job(file_kernel& system, fd directory, std::string_view name)
        : pool_job(run_job), parent(std::move(directory)), removal(system, parent, name) {}
    static void run_job(detail::pool_job& job) noexcept {
        const std::unique_ptr<removal_job> own(static_cast<removal_job*>(&job));
        try {
            static_cast<void>(
                own->removal.step(std::numeric_limits<std::size_t>::max(), std::stop_token()));
        } catch (const std::bad_alloc&) {
            // The directory stays, as after a program that ends.
        }
    }
    const fd parent;
    detail::tree_removal removal;
};

// Removes a directory that no object owns yet: its making may be stopped, or fail for lack of memory or
// descriptors.
class unowned_directory {
public:
    unowned_directory(const directory& parent, const std::string& name) noexcept
        : parent_(parent), name_(name) {}
    unowned_directory(const unowned_directory&) = delete;
    unowned_directory& operator=(const unowned_directory&) = delete;
    ~unowned_directory() {
        if (!owned_)
            static_cast<void>(
                file_kernel::chosen_by(parent_.loop())
                    .unlink_at(parent_.native().number(), name_.c_str(), AT_REMOVEDIR));
    }
    void set_owned() noexcept { owned_ = true; }

private:
    const directory& parent_;
    const std::string& name_;
    bool owned_ = false;
};

task<result<file>> open_temporary_owned(const directory& parent, std::string path) {
    ring& loop = parent.loop();
    open_options options;
    options.access = file_access::read_write;
    options.temporary = true;
    options.permissions = 0600;
    open_operation open = open_file(loop, parent.native(), path.c_str(), options);
    auto opened = co_await open;
    if (opened) co_return file(loop, std::move(*opened));
    if (opened.error() != std::errc::operation_not_supported &&
        opened.error() != std::errc::is_a_directory)
        co_return failure(opened.error());
    options.temporary = false;
    options.create = true;
    options.exclusive = true;
    for (int attempt = 0;; ++attempt) {
        const std::string name = detail::temporary_name(path + "/.kevring-");
        open_operation create = open_file(loop, parent.native(), name.c_str(), options);
        auto created = co_await create;
        if (created) {
            unlink_operation unlink(loop, parent.native(), name.c_str());
            const auto unlinked = co_await unlink;
            if (!unlinked) {  // of a stop
                static_cast<void>(file_kernel::chosen_by(loop).unlink_at(parent.native().number(),
                                                                         name.c_str(), 0));
                co_return failure(unlinked.error());
            }
            co_return file(loop, std::move(*created));
        }
        if (created.error() != std::errc::file_exists || attempt == detail::temporary_name_attempts)
            co_return failure(created.error());
    }
}

}  // namespace

task<result<file>> open_temporary_file(const directory& parent, std::string_view path) {
    return open_temporary_owned(parent, std::string(path));
}

temporary_directory::temporary_directory(directory parent, directory opened, std::string path,
                                         std::string name) noexcept
    : parent_(std::move(parent)),
      opened_(std::move(opened)),
      path_(std::move(path)),
      name_(std::move(name)) {}

temporary_directory& temporary_directory::operator=(temporary_directory&& other) noexcept {
    if (this != &other) {
        const temporary_directory old = std::move(*this);
        parent_ = std::move(other.parent_);
        opened_ = std::move(other.opened_);
        path_ = std::move(other.path_);
        name_ = std::exchange(other.name_, std::string());
    }
    return *this;
}

temporary_directory::~temporary_directory() {
    if (name_.empty() || !parent_.owns_descriptor() || parent_.loop().created_by_parent_process())
        return;
    try {
        auto job = std::make_unique<removal_job>(file_kernel::chosen_by(parent_.loop()),
                                                 parent_.release(), name_);
        if (thread_pool::shared().start(*job) == 0) static_cast<void>(job.release());
    } catch (const std::bad_alloc&) {
        // The directory stays, as after a program that ends.
    }
}

task<result<temporary_directory>> temporary_directory::make(const directory& parent,
                                                            std::string_view path,
                                                            std::string_view prefix) {
    return make_owned(parent, std::string(path), std::string(prefix));
}

task<result<temporary_directory>> temporary_directory::make_owned(const directory& parent,
                                                                  std::string path,
                                                                  std::string prefix) {
    auto folder = co_await parent.open_directory(path);
    if (!folder) co_return failure(folder.error());
    for (int attempt = 0;; ++attempt) {
        std::string name = detail::temporary_name(prefix);
        make_directory_operation make(parent.loop(), folder->native(), name.c_str(), 0700);
        const auto made = co_await make;
        if (!made) {
            if (made.error() == std::errc::file_exists && attempt < detail::temporary_name_attempts)
                continue;
            co_return failure(made.error());
        }
        unowned_directory unowned(*folder, name);
        auto opened = co_await folder->open_directory(name);
        if (!opened) co_return failure(opened.error());
        std::string full = path + '/' + name;
        unowned.set_owned();
        co_return temporary_directory(std::move(*folder), std::move(*opened), std::move(full),
                                      std::move(name));
    }
}

task<result<std::uint64_t>> temporary_directory::remove() {
    const auto removed = co_await parent_.remove_tree(name_);
    if (removed) name_.clear();
    co_return removed;
}

}  // namespace kevring
