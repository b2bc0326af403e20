// inode.cpp: names that come and go in a directory, and changes of the files behind them.
#include <kevring/kevent/sources/inode.hpp>

#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace kevring::detail {
namespace {

constexpr std::size_t changes_kept_max = 1024;
constexpr std::size_t capacity_kept_max = 16;  // with no change in it; of 48 bytes each

constexpr std::uint32_t all_events = KEVENT_INODE_CREATE | KEVENT_INODE_REMOVE |
                                     KEVENT_INODE_MODIFIED | KEVENT_INODE_ATTRIBUTES |
                                     KEVENT_INODE_MOVED_FROM | KEVENT_INODE_MOVED_TO;

// Watched only where ADD requested them: a file that is written reports one for each write.
constexpr std::uint32_t frequent_events = KEVENT_INODE_MODIFIED | KEVENT_INODE_ATTRIBUTES;

// The event of inotify(7) in the bits of this type.
std::uint32_t events_of(std::uint32_t mask) noexcept {
    // After an overflow the lost events are unknown: any may have happened.
    if ((mask & IN_Q_OVERFLOW) != 0) return all_events;
    std::uint32_t events = 0;
    if ((mask & IN_CREATE) != 0) events |= KEVENT_INODE_CREATE;
    if ((mask & IN_DELETE) != 0) events |= KEVENT_INODE_REMOVE;
    if ((mask & IN_MODIFY) != 0) events |= KEVENT_INODE_MODIFIED;
    if ((mask & IN_ATTRIB) != 0) events |= KEVENT_INODE_ATTRIBUTES;
    if ((mask & IN_MOVED_FROM) != 0) events |= KEVENT_INODE_MOVED_FROM;
    if ((mask & IN_MOVED_TO) != 0) events |= KEVENT_INODE_MOVED_TO;
    return events;
}

class inode_source;

// The inotify instance of one queue. Linux has one watch for an inode in it, whatever number of
// registrations there are, so they share it here.
class inode_watches final : private fd_handler {
public:
    explicit inode_watches(source_host& host) noexcept : host_(host) {}
    ~inode_watches() { host_.unwatch(watch_); }

    static result<std::shared_ptr<inode_watches>> of_queue(source_host& host);

    /// Watches the inode behind a descriptor for `events`, in addition to the events that it is
    /// watched for already. Earlier activity is reported before that.
    ///
    /// Result     Its number here, for a source to be made with, or a negative error number.
    int add(int number, std::uint32_t events);
    /// A source of the inode has been made, or ends.
    void attach(int inode) noexcept { ++inodes_.find(inode)->second.source_count; }
    void detach(int inode) noexcept;
    /// Ends the watch of an inode that has no source.
    void remove_unused(int inode) noexcept;
    /// Result     -ENOENT if the inode is gone; else 0, and the source receives its events from now
    ///            on.
    int join(inode_source& member, int inode) noexcept;
    /// Reports the activity so far.
    void catch_up() noexcept { on_ready(POLLIN); }

private:
    struct watched_inode {
        list_link listeners;
        std::size_t source_count = 0;  // those that do not listen at present among them
        bool gone = false;
    };

    void on_ready(std::uint32_t poll_bits) noexcept override;
    void apply(const inotify_event& event, const char* name) noexcept;

    source_host& host_;
    hidden_fd inotify_fd_;
    fd_watch watch_;
    std::unordered_map<int, watched_inode> inodes_;
};

// The test is always positive: only activity and MODIFY fire it. ret_data[0] holds the events of
// the mask that came since the last record. A rename is neither CREATE nor REMOVE (11.1).
//
// It holds no descriptor of the inode, whose end could not be seen then.
class inode_source final : public source, public list_link {
public:
    inode_source(source_host& host, registration& target, std::shared_ptr<inode_watches> watches,
                 int inode) noexcept
        : source(host, target),
          watches_(std::move(watches)),
          inode_(inode),
          frequent_(event() & frequent_events) {
        watches_->attach(inode_);
    }
    ~inode_source() override {
        unlink();
        watches_->detach(inode_);
    }

    int arm() override {
        // First: activity before MODIFY is reported by the previous mask, or not at all.
        if (std::exchange(has_been_armed_, true)) watches_->catch_up();
        listens_for_ = event();
        // MODIFY has no descriptor any more by which the watch could be widened.
        if ((listens_for_ & frequent_events & ~frequent_) != 0) return -EINVAL;
        return watches_->join(*this, inode_);
    }
    readiness test() override { return readiness::ready; }
    readiness test_on_add() override { return readiness::not_ready; }
    void disarm() noexcept override { unlink(); }

    bool before_collect() noexcept override {
        set_results(std::exchange(seen_, 0), 0);
        return true;
    }

    void happened(const inotify_event& what, const char* name) noexcept {
        const std::uint32_t events = events_of(what.mask) & listens_for_ & all_events;
        if (events == 0) return;
        seen_ |= events;
        if ((listens_for_ & KEVENT_INODE_NAMES) != 0) keep(what, events, name);
        host_.report(registration_, readiness::ready);
    }
    void gone() noexcept {
        set_results(0, static_cast<std::uint32_t>(-ENOENT));
        host_.report(registration_, readiness::broken);
    }

    int take_changes(unsigned max_count, kevent_change* target) noexcept {
        if ((event() & KEVENT_INODE_NAMES) == 0 && kept_.empty() && !lost_) return -EINVAL;
        std::size_t count = std::min<std::size_t>(max_count, kept_.size());
        for (std::size_t i = 0; i < count; ++i) {
            target[i] = {};
            target[i].event = kept_[i].events;
            target[i].cookie = kept_[i].cookie;
            kept_[i].name.copy(target[i].name, sizeof target[i].name - 1);
        }
        kept_.erase(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(count));
        if (lost_ && count < max_count) {  // behind what was kept before
            target[count] = {};
            target[count++].event = KEVENT_INODE_LOST;
            lost_ = false;
        }
        // After a burst: there may be thousands of directories, and each had its own.
        if (kept_.empty() && kept_.capacity() > capacity_kept_max) kept_.shrink_to_fit();
        return static_cast<int>(count);
    }

private:
    struct kept_change {
        std::uint32_t events;
        std::uint32_t cookie;
        std::string name;
    };

    void keep(const inotify_event& what, std::uint32_t events, const char* name) noexcept {
        if (lost_) return;
        lost_ = (what.mask & IN_Q_OVERFLOW) != 0 || kept_.size() >= changes_kept_max;
        if (lost_) return;
        if ((what.mask & IN_ISDIR) != 0) events |= KEVENT_INODE_DIRECTORY;
        try {
            kept_.push_back({events, what.cookie, name});
        } catch (const std::bad_alloc&) {
            lost_ = true;
        }
    }

    const std::shared_ptr<inode_watches> watches_;
    const int inode_;
    const std::uint32_t frequent_;
    bool has_been_armed_ = false;
    std::uint32_t listens_for_ = 0;
    std::uint32_t seen_ = 0;
    std::vector<kept_change> kept_;
    bool lost_ = false;  // some that came after those; saying so needs no memory
};

result<std::shared_ptr<inode_watches>> inode_watches::of_queue(source_host& host) {
    std::weak_ptr<void>& place = host.shared_state(event_type::inode);
    if (auto there = std::static_pointer_cast<inode_watches>(place.lock())) return there;

    auto made = std::make_shared<inode_watches>(host);
    made->inotify_fd_ =
        hidden_fd::open([]() noexcept { return ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK); });
    if (!made->inotify_fd_) return error_from_errno();
    made->watch_.number = made->inotify_fd_.number();
    if (const int failure = host.watch(made->watch_, *made, POLLIN); failure != 0)
        return error_from(failure);
    place = made;
    return made;
}

int inode_watches::add(int number, std::uint32_t events) {
    if (::fcntl(number, F_GETFD) < 0) return -EBADF;
    catch_up();
    std::array<char, 32> path;
    std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", number);
    std::uint32_t mask = IN_MASK_ADD | IN_CREATE | IN_DELETE | IN_MOVE | IN_DELETE_SELF;
    if ((events & KEVENT_INODE_MODIFIED) != 0) mask |= IN_MODIFY;
    if ((events & KEVENT_INODE_ATTRIBUTES) != 0) mask |= IN_ATTRIB;
    const int inode = ::inotify_add_watch(inotify_fd_.number(), path.data(), mask);
    if (inode < 0) return -errno;
    try {
        inodes_.try_emplace(inode);
    } catch (const std::bad_alloc&) {
        ::inotify_rm_watch(inotify_fd_.number(), inode);  // it is new: others are in the table
        throw;
    }
    return inode;
}

void inode_watches::remove_unused(int inode) noexcept {
    const auto found = inodes_.find(inode);
    if (found->second.source_count != 0) return;
    if (!found->second.gone) ::inotify_rm_watch(inotify_fd_.number(), inode);
    inodes_.erase(found);
}

void inode_watches::detach(int inode) noexcept {
    --inodes_.find(inode)->second.source_count;
    remove_unused(inode);
}

int inode_watches::join(inode_source& member, int inode) noexcept {
    watched_inode& watched = inodes_.find(inode)->second;
    if (watched.gone) return -ENOENT;
    if (!member.linked()) member.insert_before(watched.listeners);
    return 0;
}

void inode_watches::on_ready(std::uint32_t) noexcept {
    alignas(inotify_event) std::array<char, 4096> bytes;
    // A read that leaves room for the longest event has taken all: one call for most reports. Names
    // of some file systems are longer than NAME_MAX.
    constexpr std::size_t event_bytes_max = sizeof(inotify_event) + 1024;
    int left = 1;
    bool is_first = true;
    while (left > 0) {
        const ssize_t count = ::read(inotify_fd_.number(), bytes.data(), bytes.size());
        if (count <= 0) return;
        for (ssize_t offset = 0; offset < count;) {
            inotify_event event;  // the kernel pads names so that each event is aligned
            std::memcpy(&event, bytes.data() + offset, sizeof event);
            apply(event, event.len != 0 ? bytes.data() + offset + sizeof event : "");
            offset += static_cast<ssize_t>(sizeof event + event.len);
        }
        if (bytes.size() - static_cast<std::size_t>(count) >= event_bytes_max) return;
        left -= static_cast<int>(count);
        // Later changes are an edge of their own: a process that makes changes without end cannot
        // keep the queue, and its lock, busy for ever.
        if (std::exchange(is_first, false) && ::ioctl(inotify_fd_.number(), FIONREAD, &left) != 0)
            return;
    }
}

void inode_watches::apply(const inotify_event& event, const char* name) noexcept {
    const bool is_gone = (event.mask & (IN_DELETE_SELF | IN_UNMOUNT)) != 0;
    const auto notify = [&](watched_inode& watched) {
        watched.gone = watched.gone || is_gone;
        // A member that is notified may be disarmed, and so leave the list.
        for (list_link *link = watched.listeners.next, *next; link != &watched.listeners;
             link = next) {
            next = link->next;
            auto& member = static_cast<inode_source&>(*link);
            if (is_gone) {
                member.gone();
            } else {
                member.happened(event, name);
            }
        }
    };
    if ((event.mask & IN_Q_OVERFLOW) != 0) {
        for (auto& [inode, watched] : inodes_) notify(watched);
    } else if (const auto found = inodes_.find(event.wd); found != inodes_.end()) {
        notify(found->second);
    }
}

}  // namespace

result<std::unique_ptr<source>> make_inode_source(source_host& host, registration& target) {
    auto watches = inode_watches::of_queue(host);
    if (!watches) return tl::unexpected<std::error_code>(watches.error());
    const int inode =
        (*watches)->add(static_cast<int>(target.record.id.raw[0]), target.record.event);
    if (inode < 0) return error_from(inode);
    try {
        return std::make_unique<inode_source>(host, target, *watches, inode);
    } catch (const std::bad_alloc&) {
        (*watches)->remove_unused(inode);
        throw;
    }
}

int take_inode_changes(source& from, unsigned max_count, kevent_change* target) noexcept {
    return static_cast<inode_source&>(from).take_changes(max_count, target);
}

}  // namespace kevring::detail
