#include <kevring/runtime/file_replacement.hpp>

#include <kevring/runtime/detail/temporary_name.hpp>
#include <kevring/runtime/detail/unlink_later.hpp>
#include <kevring/runtime/file_kernel.hpp>
#include <kevring/runtime/operations/path.hpp>
#include <kevring/runtime/operations/statx.hpp>
#include <kevring/runtime/thread_pool.hpp>

#include <cerrno>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>

namespace kevring {
namespace {

using failure = tl::unexpected<std::error_code>;

}  // namespace

class file_replacement::state {
public:
    state(ring& on_loop, fd directory_fd, std::string file_name)
        : loop(on_loop),
          name(std::move(file_name)),
          pending(std::make_unique<detail::unlink_later>()),
          parent(std::move(directory_fd)) {}
    ~state() {
        if (temporary_name.empty() || loop.created_by_parent_process()) return;
        pending->set(std::move(parent), std::move(temporary_name));
        loop.queue(*pending.release());
    }

    ring& loop;
    const std::string name;
    std::unique_ptr<detail::unlink_later> pending;  // first: the destructor allocates nothing
    fd parent;
    std::string temporary_name;  // empty: there is nothing to remove
    file content;
};

file_replacement::file_replacement(std::unique_ptr<state> begun) noexcept
    : state_(std::move(begun)) {}
file_replacement::file_replacement(file_replacement&& other) noexcept = default;
file_replacement& file_replacement::operator=(file_replacement&& other) noexcept = default;
file_replacement::~file_replacement() = default;

const file& file_replacement::content() const noexcept { return state_->content; }

task<result<file_replacement>> file_replacement::begin(const directory& parent,
                                                       std::string_view path) {
    return begin_owned(parent, std::string(path));
}

task<result<file_replacement>> file_replacement::begin_owned(const directory& parent,
                                                             std::string path) {
    ring& loop = parent.loop();
    const std::size_t slash = path.rfind('/');
    std::string name = path.substr(slash + 1);  // npos + 1 is 0
    if (name.empty()) co_return error_from(std::errc::invalid_argument);
    const std::string folder =
        slash == std::string::npos ? std::string(".") : path.substr(0, slash + 1);
    open_options folder_options;
    folder_options.directory = true;
    open_operation open_folder = open_file(loop, parent.native(), folder.c_str(), folder_options);
    auto opened = co_await open_folder;
    if (!opened) co_return failure(opened.error());
    auto begun = std::make_unique<state>(loop, std::move(*opened), std::move(name));

    struct statx existing{};
    statx_operation find(loop, begun->parent, begun->name.c_str(), AT_SYMLINK_NOFOLLOW,
                         STATX_TYPE | STATX_MODE, existing);
    const auto found = co_await find;
    if (!found && found.error() != std::errc::no_such_file_or_directory)
        co_return failure(found.error());
    const bool keeps_permissions = found && S_ISREG(existing.stx_mode);

    open_options options;
    options.access = file_access::read_write;
    options.create = true;
    options.exclusive = true;
    options.permissions = keeps_permissions ? 0600 : 0666;
    for (int attempt = 0;; ++attempt) {
        std::string temporary = detail::temporary_name(".kevring-");
        open_operation create = open_file(loop, begun->parent, temporary.c_str(), options);
        auto created = co_await create;
        if (created) {
            begun->content = file(loop, std::move(*created));
            begun->temporary_name = std::move(temporary);
            break;
        }
        if (created.error() != std::errc::file_exists || attempt == detail::temporary_name_attempts)
            co_return failure(created.error());
    }
    if (keeps_permissions) {
        file_kernel& system = file_kernel::chosen_by(loop);
        const int number = begun->content.native().number();
        const mode_t permissions = existing.stx_mode & 0777;
        auto set = [&system, number, permissions]() -> result<void> {
            const int answer = system.set_permissions(number, permissions);
            if (answer < 0) return error_from(answer);
            return {};
        };
        const auto permitted = co_await blocking(set);
        if (!permitted) co_return failure(permitted.error());
    }
    co_return file_replacement(std::move(begun));
}

task<result<void>> file_replacement::commit() {
    state& replacement = *state_;
    if (replacement.temporary_name.empty()) co_return error_from(std::errc::invalid_argument);
    auto sync_content = replacement.content.sync();
    const auto content_synced = co_await sync_content;
    if (!content_synced) co_return failure(content_synced.error());
    rename_operation rename(replacement.loop, replacement.parent,
                            replacement.temporary_name.c_str(), replacement.parent,
                            replacement.name.c_str());
    const auto renamed = co_await rename;
    if (!renamed) co_return failure(renamed.error());
    replacement.temporary_name.clear();
    fsync_operation sync_folder(replacement.loop, replacement.parent);
    co_return co_await sync_folder;
}

task<result<void>> replace_file(const directory& parent, std::string_view path,
                                std::span<const std::byte> content) {
    auto replace = [](task<result<file_replacement>> beginning,
                      std::span<const std::byte> bytes) -> task<result<void>> {
        auto replacement = co_await std::move(beginning);
        if (!replacement) co_return failure(replacement.error());
        const auto written = co_await replacement->content().write_all(bytes);
        if (!written) co_return failure(written.error());
        co_return co_await replacement->commit();
    };
    return replace(file_replacement::begin(parent, path), content);
}

}  // namespace kevring
