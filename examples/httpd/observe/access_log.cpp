#include "access_log.hpp"

#include <kevring/runtime/operations/write.hpp>
#include <kevring/runtime/sleep.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include <unistd.h>

namespace httpd {
namespace {

// A disk that stands still must not fill memory: beyond this, lines are dropped and counted.
constexpr std::size_t pending_bytes_max = 16 << 20;

access_log_format format_of(const std::shared_ptr<const log_target>& target) noexcept {
    return target ? target->format : access_log_format::common;
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
    // Lines wait for company: a write for each would cost as much as a small response.
    while (target_ || !pending_writes_.empty()) {
        const auto slept = co_await kevring::sleep_for(std::chrono::seconds(1));
        if (!slept) break;
        const bool written = co_await write_now(loop);
        if (!written) break;
    }
    // The loop is about to end, and nothing may be awaited any more: what is left goes out
    // directly.
    collect();
    for (const lines& each : pending_writes_) {
        for (std::string_view rest = each.text; !rest.empty();) {
            const ssize_t count = ::write(each.target->file.number(), rest.data(), rest.size());
            if (count < 0 && errno == EINTR) continue;
            if (count <= 0) break;
            rest.remove_prefix(static_cast<std::size_t>(count));
        }
    }
    pending_writes_.clear();
    is_running_ = false;
}

// False: stopped, and what was not written waits again.
kevring::task<bool> access_log::write_now(kevring::ring& loop) {
    collect();
    while (!pending_writes_.empty()) {
        lines now =
            std::move(pending_writes_.front());  // held here: use() may come while it is written
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
                std::fprintf(stderr, "httpd: access log %s: %s\n", now.target->path.c_str(),
                             count.error().message().c_str());
                break;
            }
            rest = rest.subspan(*count);
        }
    }
    co_return true;
}

}  // namespace httpd
