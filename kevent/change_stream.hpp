// change_stream.hpp: changes of files and directories, as values that a coroutine awaits.
#pragma once

#include <kevring/runtime/detail/fetched_item.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

namespace kevring {
namespace detail {
class readiness_watch;
}

/// Kinds of changes of a watched object: bits that `|` and `&` combine.
enum class change_kind : std::uint32_t {
    none = 0,
    created = 0x1,      // a name was made in the directory
    removed = 0x2,      // a name was removed from the directory
    written = 0x4,      // a file that was open for writing was closed: its bytes are there
    modified = 0x8,     // bytes of a file were written or cut off
    attributes = 0x10,  // mode, owner, times, number of links
    moved_from = 0x20,  // a name left the directory; `cookie` joins it to its moved_to
    moved_to = 0x40,    // a name came to the directory by a rename, maybe in place of another
    moved = 0x80,       // what is watched has another name now, and is still watched
    gone = 0x100,       // what is watched is no more, and the watch neither; always reported
    lost = 0x200,       // changes were lost: look at everything; always reported
    directory = 0x400,  // goes with others: the name is one of a directory
};
constexpr change_kind operator|(change_kind one, change_kind other) noexcept {
    return static_cast<change_kind>(static_cast<std::uint32_t>(one) |
                                    static_cast<std::uint32_t>(other));
}
constexpr change_kind operator~(change_kind one) noexcept {
    return static_cast<change_kind>(~static_cast<std::uint32_t>(one));
}
constexpr change_kind operator&(change_kind one, change_kind other) noexcept {
    return static_cast<change_kind>(static_cast<std::uint32_t>(one) &
                                    static_cast<std::uint32_t>(other));
}
/// True if `some` and `others` have a bit in common.
constexpr bool any_of(change_kind some, change_kind others) noexcept {
    return (some & others) != change_kind::none;
}

/// Every change but the first of two that come together: a write is reported when the file is
/// closed.
inline constexpr change_kind default_changes =
    change_kind::created | change_kind::removed | change_kind::written | change_kind::attributes |
    change_kind::moved_from | change_kind::moved_to | change_kind::moved;

/// One thing that happened.
struct change {
    change_kind kinds = change_kind::none;
    int watch = -1;            // what add() returned; -1 with `lost`
    std::string path;          // as it was given to add()
    std::string name;          // in the directory `path`; empty where `path` itself is meant
    std::uint32_t cookie = 0;  // the same in the moved_from and the moved_to of one rename
};

/// Changes of any number of files and directories, in the order in which they happened.
///
///     auto folder = value_or_throw(change_stream::open(), "inotify");
///     value_or_throw(folder.add("/etc"), "/etc");
///     auto got = co_await folder.next();
///
/// The kernel queues changes between two waits. When its queue overflows, one `lost` reports it.
///
/// Lifetime   Stays where it is while a next() is awaited.
/// Thread     The ring's that awaits the first next().
/// Kernel     inotify(7). A directory's subdirectories are not watched with it.
class change_stream {
public:
    /// Errors     too_many_files_open, also for the limit of inotify instances of the user.
    static result<change_stream> open();

    /// Watches `path`, a file or a directory, for `kinds`. It watches the inode that the path names
    /// now; another inode under that name is a change of its directory. A second watch of the
    /// same inode adds the kinds to that watch, which keeps its number and its path.
    ///
    /// Result     The number of the watch, for remove() and in changes.
    /// Errors     no_such_file_or_directory, permission_denied; no_space_on_device at the limit of
    ///            watches of the user; invalid_argument for no kinds.
    result<int> add(std::string path, change_kind kinds = default_changes);
    /// Ends a watch; its changes that were not taken are dropped.
    void remove(int watch) noexcept;
    std::size_t watch_count() const noexcept { return paths_.size(); }

    /// Errors     operation_canceled and timed_out, by the scope around it; no change is lost then.
    /// In flight  One at a time.
    [[nodiscard]] detail::fetched_item<change> next() { return {fetched_, fetch()}; }

private:
    explicit change_stream(fd notifier) noexcept : inotify_fd_(std::move(notifier)) {}
    task<result<void>> fetch();
    bool take_from_buffer(change& target);

    fd inotify_fd_;
    std::shared_ptr<detail::readiness_watch> edges_;
    std::unordered_map<int, std::string> paths_;
    // Changes that were read and not taken yet.
    std::array<std::byte, 4096> buffer_;
    std::size_t buffer_begin_ = 0;
    std::size_t buffer_end_ = 0;
    std::optional<change> fetched_;  // by a next() that was left before it took it
};

/// Waits for the first change of `path` from the time of the await on; see change_stream, which
/// also has those that come after it.
task<result<change>> changes(std::string path, change_kind kinds = default_changes);

}  // namespace kevring
