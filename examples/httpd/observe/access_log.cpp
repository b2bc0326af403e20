#include "access_log.hpp"

#include "error_log.hpp"

#include <kevring/runtime/operations/write.hpp>
#include <kevring/runtime/sleep.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include <poll.h>
#include <unistd.h>

namespace httpd {
namespace {

// Memory for lines that the disk has not accepted yet; further lines are dropped and counted.
constexpr std::size_t pending_bytes_max = 16 << 20;

access_log_format format_of(const std::shared_ptr<const log_target>& target) noexcept {
    return target ? target->format : access_log_format::common;
}

// Writes what the file accepts without waiting: a pipe that is full must not delay the end of the
// server. A pipe that is ready for writing accepts PIPE_BUF bytes.
void write_directly(const log_target& target, std::string_view text) noexcept {
    while (!text.empty()) {
        pollfd ready{.fd = target.file.number(), .events = POLLOUT, .revents = 0};
        if (::poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) return;
        const ssize_t count = ::write(target.file.number(), text.data(),
                                      std::min<std::size_t>(text.size(), PIPE_BUF));
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return;
        text.remove_prefix(static_cast<std::size_t>(count));
    }
}

}  // namespace

access_log::access_log(std::shared_ptr<const log_target> target)
    : target_(std::move(target)), format_(format_of(target_)) {}

void access_log::add(const access_record& record) {
    if (!target_) return;
    std::array<char, access_line_bytes_max> text;
    const std::string_view line = format_.line(record, text);
    if (pending_.size() + line.size() > pending_bytes_max) {
        ++dropped_count_;
        return;
    }
    pending_ += line;
}

void access_log::set_target(std::shared_ptr<const log_target> target) {
    const bool same_name =
        target_ && target && target_->path == target->path && target_->format == target->format;
    if (!same_name) collect();
    target_ = std::move(target);
    format_ = access_log_formatter(format_of(target_));
}

void access_log::collect() {
    if (pending_.empty()) return;
    pending_writes_.push_back({target_, std::move(pending_)});
    pending_.clear();
}

kevring::task<void> access_log::run(kevring::ring& loop) {
    is_running_ = true;
    // Lines are collected for a second: a write per line would cost as much as a small response.
    while (target_ || !pending_writes_.empty()) {
        const auto slept = co_await kevring::sleep_for(std::chrono::seconds(1));
        if (!slept) break;
        const bool written = co_await write_now(loop);
        if (!written) break;
    }
    // The loop is about to end, and nothing can be awaited: the rest is written directly.
    collect();
    for (const lines& each : pending_writes_) write_directly(*each.target, each.text);
    pending_writes_.clear();
    is_running_ = false;
}

// False: stopped; the lines that were not written are pending again.
kevring::task<bool> access_log::write_now(kevring::ring& loop) {
    collect();
    while (!pending_writes_.empty()) {
        lines now =
            std::move(pending_writes_.front());  // set_target() may be called during the write
        pending_writes_.erase(pending_writes_.begin());
        std::span<const std::byte> rest = std::as_bytes(std::span(now.text));
        while (!rest.empty()) {
            kevring::write_operation write(loop, now.target->file, rest);
            const auto count = co_await write;
            if (!count) {
                if (count.error() == std::errc::operation_canceled) {
                    now.text.erase(0, now.text.size() - rest.size());
                    pending_writes_.insert(pending_writes_.begin(), std::move(now));
                    co_return false;
                }
                log_message(severity::error,
                            "access log " + now.target->path + ": " + count.error().message());
                break;
            }
            rest = rest.subspan(*count);
        }
    }
    co_return true;
}

}  // namespace httpd
