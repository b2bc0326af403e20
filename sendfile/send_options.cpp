#include <kevring/sendfile/send_options.hpp>

#include <kevring/sendfile/detail/window_pool.hpp>

#include <sys/stat.h>

namespace kevring {
namespace {

constexpr std::uint32_t state_ttl_ms = 10;

std::uint32_t ms_of(std::int64_t now_ns) noexcept {
    return static_cast<std::uint32_t>(now_ns / 1'000'000);
}

}  // namespace

file_version file_version::from_stat(const struct stat& status) noexcept {
    // A time after the year 2262 wraps around; different times remain different.
    const std::uint64_t modified_ns =
        static_cast<std::uint64_t>(status.st_mtim.tv_sec) * 1'000'000'000 +
        static_cast<std::uint64_t>(status.st_mtim.tv_nsec);
    return {static_cast<std::uint64_t>(status.st_size), static_cast<std::int64_t>(modified_ns)};
}

bool file_state_cache::is_resident(std::uint64_t file_offset, std::int64_t now_ns) const noexcept {
    const std::uint64_t index = file_offset / detail::window_bytes;
    if (file_offset % detail::window_bytes != 0 || index >= seen_ms_.size()) return false;
    return ms_of(now_ns) - seen_ms_[index] < state_ttl_ms;
}

void file_state_cache::record_resident(std::uint64_t file_offset, std::int64_t now_ns) noexcept {
    const std::uint64_t index = file_offset / detail::window_bytes;
    if (file_offset % detail::window_bytes != 0 || index >= seen_ms_.size()) return;
    seen_ms_[index] = ms_of(now_ns);
}

}  // namespace kevring
