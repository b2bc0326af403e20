#include "access_log.hpp"

#include <kevring/runtime/operations/write.hpp>
#include <kevring/runtime/sleep.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <span>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace httpd {
namespace {

// A disk that stands still must not fill memory: beyond this, lines are dropped and counted.
constexpr std::size_t pending_bytes_max = 16 << 20;

kevring::fd open_log(const std::string& path) noexcept {
    if (path == "-") return kevring::fd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
    return kevring::fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
}

}  // namespace

access_log::access_log(std::string path, access_log_format format)
    : path_(std::move(path)), format_(format) {
    if (path_.empty()) return;
    file_ = open_log(path_);
    if (!file_) throw std::system_error(errno, std::system_category(), "--access-log " + path_);
}

void access_log::add(const access_record& record) {
    if (!file_) return;
    std::array<char, access_line_bytes_max> text;
    const std::string_view line = format_.line(record, text);
    if (pending_.size() + line.size() > pending_bytes_max) {
        ++dropped_count_;
        return;
    }
    pending_ += line;
}

void access_log::open_anew() noexcept {
    reopen_ = false;
    if (path_.empty() || path_ == "-") return;
    if (kevring::fd opened = open_log(path_)) {
        file_ = std::move(opened);
    } else {
        std::fprintf(stderr, "httpd: %s stays open as it was: %s\n", path_.c_str(),
                     std::generic_category().message(errno).c_str());
    }
}

kevring::task<void> access_log::write_lines(kevring::ring& on) {
    if (!file_) co_return;
    // Lines wait for company: a write for each would cost as much as a small response.
    while (true) {
        const auto slept = co_await kevring::sleep_for(std::chrono::seconds(1));
        if (!slept) break;
        if (reopen_) open_anew();  // between two writes: none is on its way to the old file
        const bool written = co_await write_now(on);
        if (!written) break;
    }
    // The loop is about to end, and nothing may be awaited any more: what is left goes out
    // directly.
    for (std::string_view rest = pending_; !rest.empty();) {
        const ssize_t count = ::write(file_.number(), rest.data(), rest.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) break;
        rest.remove_prefix(static_cast<std::size_t>(count));
    }
    pending_.clear();
}

kevring::task<bool> access_log::write_now(kevring::ring& on) {
    writing_.clear();
    std::swap(writing_, pending_);
    std::span<const std::byte> rest = std::as_bytes(std::span(writing_));
    while (!rest.empty()) {
        kevring::write_operation write(on, file_, rest);
        const auto count = co_await write;
        if (!count) {
            if (count.error() == std::errc::operation_canceled) {
                pending_.insert(0, reinterpret_cast<const char*>(rest.data()), rest.size());
                co_return false;
            }
            std::fprintf(stderr, "httpd: access log %s: %s\n", path_.c_str(),
                         count.error().message().c_str());
            break;
        }
        rest = rest.subspan(*count);
    }
    co_return true;
}

}  // namespace httpd
