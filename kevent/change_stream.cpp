// change_stream.cpp: see change_stream.hpp.
#include <kevring/kevent/change_stream.hpp>

#include <kevring/kevent/detail/next_item.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>

#include <cerrno>
#include <cstring>

#include <sys/inotify.h>
#include <unistd.h>

namespace kevring {
namespace {

struct mask_row {
    change_kind kind;
    std::uint32_t mask;
};
constexpr mask_row mask_table[] = {
    {change_kind::created, IN_CREATE},      {change_kind::removed, IN_DELETE},
    {change_kind::written, IN_CLOSE_WRITE}, {change_kind::modified, IN_MODIFY},
    {change_kind::attributes, IN_ATTRIB},   {change_kind::moved_from, IN_MOVED_FROM},
    {change_kind::moved_to, IN_MOVED_TO},   {change_kind::moved, IN_MOVE_SELF},
    {change_kind::gone, IN_IGNORED},  // the last that a watch reports, whatever has ended it
    {change_kind::lost, IN_Q_OVERFLOW},     {change_kind::directory, IN_ISDIR},
};
constexpr std::uint32_t reported_always = IN_IGNORED | IN_Q_OVERFLOW | IN_ISDIR;

change_kind kinds_of(std::uint32_t mask) noexcept {
    auto kinds = change_kind::none;
    for (const mask_row& row : mask_table) {
        if ((mask & row.mask) != 0) kinds = kinds | row.kind;
    }
    return kinds;
}

std::uint32_t mask_of(change_kind kinds) noexcept {
    std::uint32_t mask = 0;
    for (const mask_row& row : mask_table) {
        if (any_of(kinds, row.kind)) mask |= row.mask;
    }
    return mask & ~reported_always;
}

}  // namespace

result<change_stream> change_stream::open() {
    fd notifier(detail::above_standard(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)));
    if (!notifier) return error_from_errno();
    return change_stream(std::move(notifier));
}

result<int> change_stream::add(std::string path, change_kind kinds) {
    const std::uint32_t mask = mask_of(kinds);
    if (mask == 0) return error_from(-EINVAL);
    const int watch = ::inotify_add_watch(inotify_fd_.number(), path.c_str(), mask | IN_MASK_ADD);
    if (watch < 0) return error_from_errno();
    paths_.try_emplace(watch, std::move(path));
    return watch;
}

void change_stream::remove(int watch) noexcept {
    if (paths_.erase(watch) != 0) ::inotify_rm_watch(inotify_fd_.number(), watch);
}

// False when nothing is left. Changes of a watch that was removed are skipped.
bool change_stream::take_from_buffer(change& target) {
    while (buffer_begin_ < buffer_end_) {
        inotify_event event;
        std::memcpy(&event, buffer_.data() + buffer_begin_, sizeof event);
        // Padded with zeros, by which it ends.
        const auto* const name =
            reinterpret_cast<const char*>(buffer_.data() + buffer_begin_ + sizeof event);
        buffer_begin_ += sizeof event + event.len;

        const change_kind kinds = kinds_of(event.mask);
        const auto found = paths_.find(event.wd);
        const bool lost = any_of(kinds, change_kind::lost);
        if ((found == paths_.end() && !lost) ||
            (kinds & ~change_kind::directory) == change_kind::none)
            continue;
        target = change{};
        target.kinds = kinds;
        target.cookie = event.cookie;
        if (lost) return true;
        target.watch = event.wd;
        if (event.len != 0) target.name.assign(name, ::strnlen(name, event.len));
        if (any_of(kinds, change_kind::gone)) {
            target.path = std::move(found->second);
            paths_.erase(found);
        } else {
            target.path = found->second;
        }
        return true;
    }
    return false;
}

task<result<void>> change_stream::fetch() {
    auto take = [&]() -> result<std::optional<change>> {
        change taken;
        while (true) {
            if (take_from_buffer(taken)) return std::optional(std::move(taken));
            const ssize_t count = ::read(inotify_fd_.number(), buffer_.data(), buffer_.size());
            if (count < 0 && errno != EAGAIN && errno != EINTR) return error_from_errno();
            if (count <= 0) return std::optional<change>();
            buffer_begin_ = 0;
            buffer_end_ = static_cast<std::size_t>(count);
        }
    };
    co_return co_await detail::fetch_item(fd_ref(inotify_fd_), edges_, take, fetched_);
}

task<result<change>> changes(std::string path, change_kind kinds) {
    auto stream = change_stream::open();
    if (!stream) co_return tl::unexpected<std::error_code>(stream.error());
    const auto watch = stream->add(std::move(path), kinds);
    if (!watch) co_return tl::unexpected<std::error_code>(watch.error());
    co_return co_await stream->next();
}

}  // namespace kevring
