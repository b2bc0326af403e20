#include <kevring/runtime/detail/tree_copier.hpp>

#include <kevring/runtime/detail/file_type.hpp>

#include <array>
#include <cerrno>
#include <climits>

#include <fcntl.h>
#include <sys/stat.h>

namespace kevring::detail {
namespace {

constexpr std::size_t step_bytes = 16 * 1024 * 1024;
constexpr std::size_t step_entry_count = 256;
constexpr mode_t owner_bits = 0700;

}  // namespace

result<bool> tree_copier::step(const std::stop_token& stop) {
    std::size_t bytes_left = step_bytes;
    for (std::size_t count = 0; count < step_entry_count && bytes_left != 0; ++count) {
        int answer = 0;
        while (answer == 0 && file_.active() && bytes_left != 0) {
            if (stop.stop_requested()) return error_from(std::errc::operation_canceled);
            answer = copy_bytes(bytes_left);
        }
        if (answer == 0 && bytes_left == 0) return false;
        if (stop.stop_requested()) return error_from(std::errc::operation_canceled);
        if (answer == 0) answer = begun_ ? copy_next() : begin();
        if (answer < 0) return error_from(answer);
        if (source_.depth() == 0) return true;
    }
    return false;
}

int tree_copier::begin() {
    begun_ = true;
    const int answer = enter(source_directory_.number(), source_path_.c_str(),
                             target_directory_.number(), target_path_.c_str());
    if (answer < 0) return answer == -ELOOP ? -ENOTDIR : answer;
    struct stat status{};
    const int found = system_.status(target_.current(), status);
    target_device_ = status.st_dev;
    target_inode_ = status.st_ino;
    return found;
}

int tree_copier::copy_next() {
    listed_entry listed;
    const int found = source_.next(listed);
    if (found < 0) return found;
    if (found == 0) return leave();
    file_type type = type_from_entry(listed.type);
    if (type == file_type::unknown) {
        struct statx status{};
        const int answer = system_.status_at(source_.current(), listed.name, AT_SYMLINK_NOFOLLOW,
                                             STATX_TYPE, status);
        if (answer < 0) return answer;
        type = type_from_mode(status.stx_mode);
    }
    switch (type) {
        case file_type::regular:
            return file_.begin(source_.current(), listed.name, target_.current(), listed.name,
                               options_);
        case file_type::directory: {
            const std::string name = listed.name;
            return enter(source_.current(), name.c_str(), target_.current(), name.c_str());
        }
        case file_type::symlink: return copy_link(listed.name);
        case file_type::fifo: return copy_fifo(listed.name);
        default: ++progress_.skipped_count; return 0;
    }
}

int tree_copier::copy_bytes(std::size_t& bytes_left) {
    const ssize_t count = file_.step(bytes_left);
    if (count < 0) return static_cast<int>(count);
    if (count == 0) ++progress_.file_count;
    bytes_left -= static_cast<std::size_t>(count);
    progress_.byte_count += static_cast<std::uint64_t>(count);
    return 0;
}

int tree_copier::copy_link(const char* name) {
    std::array<char, PATH_MAX> content{};
    const ssize_t length =
        system_.read_link_at(source_.current(), name, content.data(), content.size() - 1);
    if (length < 0) return static_cast<int>(length);
    content[static_cast<std::size_t>(length)] = '\0';
    int answer = system_.symlink_at(content.data(), target_.current(), name);
    if (answer == -EEXIST && options_.overwrite) {
        answer = system_.unlink_at(target_.current(), name, 0);
        if (answer == 0) answer = system_.symlink_at(content.data(), target_.current(), name);
    }
    if (answer == 0) ++progress_.other_count;
    return answer;
}

int tree_copier::copy_fifo(const char* name) {
    struct statx status{};
    int answer = system_.status_at(source_.current(), name, AT_SYMLINK_NOFOLLOW,
                                   STATX_TYPE | STATX_MODE, status);
    if (answer < 0) return answer;
    const mode_t permissions = status.stx_mode & 0777;
    answer = system_.make_node_at(target_.current(), name, S_IFIFO | permissions);
    if (answer == -EEXIST && options_.overwrite) {
        struct statx existing{};
        answer =
            system_.status_at(target_.current(), name, AT_SYMLINK_NOFOLLOW, STATX_TYPE, existing);
        if (answer < 0) return answer;
        return S_ISFIFO(existing.stx_mode) ? 0 : -EEXIST;
    }
    if (answer == 0) ++progress_.other_count;
    return answer;
}

int tree_copier::enter(int source_directory, const char* source, int target_directory,
                       const char* target) {
    if (levels_.size() == levels_.capacity())  // first: it may throw
        levels_.reserve(2 * levels_.size() + 8);
    int answer = source_.enter(source_directory, source);
    if (answer < 0) return answer;
    struct stat status{};
    answer = system_.status(source_.current(), status);
    if (answer < 0) return answer;
    // The copy would copy itself without end.
    if (target_inode_ != 0 && status.st_dev == target_device_ && status.st_ino == target_inode_)
        return -EINVAL;
    // Writable for its owner until its entries are complete.
    answer =
        system_.make_directory_at(target_directory, target, (status.st_mode & 0777) | owner_bits);
    if (answer == 0) ++progress_.directory_count;
    if (answer < 0 && (answer != -EEXIST || !options_.overwrite)) return answer;
    answer = target_.enter(target_directory, target);
    if (answer < 0) return answer;
    // Set-id bits would act for another owner.
    levels_.push_back({status.st_mode & 01777, {status.st_atim, status.st_mtim}});
    return 0;
}

int tree_copier::leave() {
    const level& left = levels_.back();
    int answer = 0;
    if (options_.preserve) {
        answer = system_.set_permissions(target_.current(), left.permissions);
        if (answer == 0) answer = system_.set_times(target_.current(), left.times);
    } else if ((left.permissions & owner_bits) != owner_bits) {
        struct stat status{};
        answer = system_.status(target_.current(), status);
        if (answer == 0)
            answer =
                system_.set_permissions(target_.current(), (status.st_mode & 07777 & ~owner_bits) |
                                                               (left.permissions & owner_bits));
    }
    if (answer < 0) return answer;
    levels_.pop_back();
    answer = target_.leave();
    return answer < 0 ? answer : source_.leave();
}

}  // namespace kevring::detail
