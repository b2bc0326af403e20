#include <kevring/runtime/detail/tree_removal.hpp>

#include <cerrno>
#include <string_view>
#include <utility>

#include <dirent.h>
#include <fcntl.h>

namespace kevring::detail {

result<bool> tree_removal::step(std::size_t entry_count_max, const std::stop_token& stop) {
    for (std::size_t count = 0; count < entry_count_max; ++count) {
        if (stop.stop_requested()) return error_from(std::errc::operation_canceled);
        const int answer = begun_ ? remove_next() : begin();
        if (answer < 0) return error_from(answer);
        if (levels_.depth() == 0) return true;
    }
    return false;
}

// A root that is a file or a symbolic link is removed itself.
int tree_removal::begin() {
    begun_ = true;
    // The kernel removes none of these: their entries would be lost before it refuses.
    const std::string_view last = std::string_view(root_).substr(root_.rfind('/') + 1);
    if (last == "." || last == ".." || root_ == "/") return -EINVAL;
    const int answer = system_.unlink_at(directory_.number(), root_.c_str(), 0);
    if (answer == 0) ++removed_count_;
    if (answer != -EISDIR && answer != -EPERM) return answer;
    const int entered = enter(directory_.number(), root_.c_str());
    return entered == -ENOTDIR || entered == -ELOOP ? answer : entered;
}

int tree_removal::remove_next() {
    listed_entry listed;
    const int found = levels_.next(listed);
    if (found < 0) return found;
    if (found == 0) return remove_current();
    const int parent = levels_.current();
    if (listed.type != DT_DIR) {
        const int answer = remove_entry(parent, listed.name);
        if (answer != -EISDIR) return answer;
    }
    const std::string name = listed.name;
    const int answer = enter(parent, name.c_str());
    if (answer == -ENOENT) return 0;
    // Another process has replaced the directory by a file or a link.
    if (answer == -ENOTDIR || answer == -ELOOP) return remove_entry(parent, name.c_str());
    return answer;
}

// An entry that another process has removed is no error.
int tree_removal::remove_entry(int directory, const char* name) {
    const int answer = system_.unlink_at(directory, name, 0);
    if (answer == 0) ++removed_count_;
    return answer == -ENOENT ? 0 : answer;
}

int tree_removal::enter(int directory, const char* name) {
    names_.emplace_back(name);
    const int answer = levels_.enter(directory, name);
    if (answer < 0) names_.pop_back();
    return answer;
}

int tree_removal::remove_current() {
    const std::string name = std::move(names_.back());
    names_.pop_back();
    if (const int answer = levels_.leave(); answer < 0) return answer;
    const int parent = levels_.depth() == 0 ? directory_.number() : levels_.current();
    const int answer = system_.unlink_at(parent, name.c_str(), AT_REMOVEDIR);
    if (answer == 0) ++removed_count_;
    if (answer == 0 || answer == -ENOENT) return 0;
    if (answer == -ENOTDIR) return remove_entry(parent, name.c_str());
    // An entry that was made after the listing.
    if ((answer == -ENOTEMPTY || answer == -EEXIST) && repeat_count_ < repeat_count_max) {
        ++repeat_count_;
        return enter(parent, name.c_str());
    }
    return answer;
}

}  // namespace kevring::detail
