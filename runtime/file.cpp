#include <kevring/runtime/file.hpp>

#include <kevring/runtime/features.hpp>
#include <kevring/runtime/file_kernel.hpp>
#include <kevring/runtime/operations/statx.hpp>
#include <kevring/runtime/thread_pool.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/limits.h>
#include <sys/stat.h>

namespace kevring {
namespace {

constexpr std::size_t read_bytes_min = 4 * 1024;
constexpr std::size_t read_bytes_max = 1024 * 1024;

constexpr std::uint64_t advanced(std::uint64_t file_offset, std::size_t byte_count) noexcept {
    return file_offset == file_position ? file_offset : file_offset + byte_count;
}

}  // namespace

int open_options::flags() const noexcept {
    int flags = O_CLOEXEC | O_NOCTTY;
    switch (access) {
        case file_access::read: flags |= O_RDONLY; break;
        case file_access::write: flags |= O_WRONLY; break;
        case file_access::read_write: flags |= O_RDWR; break;
        case file_access::path: flags = O_PATH | O_CLOEXEC; break;
    }
    const struct {
        bool wanted;
        int flag;
    } table[] = {
        {create, O_CREAT},         {exclusive, O_EXCL},
        {truncate, O_TRUNC},       {append, O_APPEND},
        {temporary, O_TMPFILE},    {direct, O_DIRECT},
        {data_sync, O_DSYNC},      {sync, O_SYNC},
        {directory, O_DIRECTORY},  {!follow_symlink, O_NOFOLLOW},
        {nonblocking, O_NONBLOCK}, {keep_access_time, O_NOATIME},
    };
    for (const auto& row : table)
        if (row.wanted) flags |= row.flag;
    return flags;
}

task<result<std::size_t>> file::read_full(std::span<std::byte> buffer,
                                          std::uint64_t file_offset) const {
    if (buffer.empty()) co_return error_from(std::errc::invalid_argument);
    std::size_t used = 0;
    while (used != buffer.size()) {
        read_operation request = read(buffer.subspan(used), advanced(file_offset, used));
        const auto count = co_await request;
        if (!count && count.error() == std::errc::interrupted) continue;
        if (!count) co_return tl::unexpected<std::error_code>(count.error());
        if (*count == 0) break;
        used += *count;
    }
    co_return used;
}

task<result<std::string>> file::read_all(std::size_t byte_count_max,
                                         std::uint64_t file_offset) const {
    std::string content;
    std::size_t wanted = read_bytes_min;
    struct stat found{};
    // One byte more than the file has shows its end.
    if (status(found) && S_ISREG(found.st_mode) && found.st_size > 0)
        wanted = static_cast<std::size_t>(found.st_size) + 1;
    while (true) {
        const std::size_t used = content.size();
        const std::size_t left = byte_count_max - used;
        wanted = std::min(wanted, left < read_bytes_max ? left + 1 : read_bytes_max);
        content.resize(used + wanted);
        read_operation request =
            read(std::as_writable_bytes(std::span(content.data() + used, wanted)),
                 advanced(file_offset, used));
        const auto count = co_await request;
        content.resize(used + count.value_or(0));
        if (!count) co_return tl::unexpected<std::error_code>(count.error());
        if (*count == 0) co_return content;
        if (*count > left) co_return error_from(std::errc::message_size);
        wanted = *count == wanted ? wanted * 2 : read_bytes_min;
    }
}

task<write_result> file::write_all(std::span<const std::byte> bytes,
                                   std::uint64_t file_offset) const {
    std::size_t written = 0;
    while (written != bytes.size()) {
        write_operation request = write(bytes.subspan(written), advanced(file_offset, written));
        const auto count = co_await request;
        if (!count) co_return write_result(tl::unexpected<std::error_code>(count.error()), written);
        if (*count == 0) co_return write_result(error_from(std::errc::io_error), written);
        written += *count;
    }
    co_return write_result(written);
}

task<write_result> file::write_all(std::string_view text, std::uint64_t file_offset) const {
    return write_all(std::as_bytes(std::span(text)), file_offset);
}

task<write_result> file::write_parts(std::vector<iovec> parts, std::uint64_t file_offset) const {
    std::size_t written = 0;
    for (const iovec& part : parts) {
        const write_result done =
            co_await write_all(detail::bytes_of_part(part), advanced(file_offset, written));
        written += done.bytes_written();
        if (!done) co_return write_result(tl::unexpected<std::error_code>(done.error()), written);
    }
    co_return write_result(written);
}

task<result<void>> file::truncate(std::uint64_t file_bytes) const {
    if (features::get().truncate) {
        truncate_operation request(loop(), opened_, file_bytes);
        co_return co_await request;
    }
    file_kernel& system = file_kernel::chosen_by(loop());
    const int number = opened_.number();
    auto call = [&system, number, file_bytes]() -> result<void> {
        const int answer = system.truncate(number, static_cast<off_t>(file_bytes));
        if (answer < 0) return error_from(answer);
        return {};
    };
    co_return co_await blocking(call);
}

result<void> file::status(struct stat& status) const noexcept {
    return file_status(loop(), opened_, status);
}

task<result<std::string>> file::attribute(std::string_view name) const {
    return get_attribute(std::string(name));
}
task<result<void>> file::set_attribute(std::string_view name, std::string_view value,
                                       int flags) const {
    return put_attribute(std::string(name), std::string(value), flags);
}
task<result<void>> file::remove_attribute(std::string_view name) const {
    return drop_attribute(std::string(name));
}

task<result<std::string>> file::get_attribute(std::string name) const {
    std::string value(256, '\0');
    while (true) {
        get_attribute_operation request(loop(), opened_, name.c_str(),
                                        std::as_writable_bytes(std::span(value)));
        const auto count = co_await request;
        if (count) {
            value.resize(*count);
            co_return value;
        }
        if (count.error() != std::errc::result_out_of_range || value.size() >= XATTR_SIZE_MAX)
            co_return tl::unexpected<std::error_code>(count.error());
        value.resize(XATTR_SIZE_MAX);
    }
}

task<result<void>> file::put_attribute(std::string name, std::string value, int flags) const {
    set_attribute_operation request(loop(), opened_, name.c_str(), std::as_bytes(std::span(value)),
                                    flags);
    co_return co_await request;
}

task<result<std::vector<std::string>>> file::attribute_names() const {
    file_kernel& system = file_kernel::chosen_by(loop());
    const int number = opened_.number();
    auto call = [&system, number]() -> result<std::vector<std::string>> {
        std::string text(XATTR_LIST_MAX, '\0');
        const ssize_t count = system.list_attributes(number, text.data(), text.size());
        if (count < 0) return error_from(static_cast<std::int32_t>(count));
        text.resize(static_cast<std::size_t>(count));
        std::vector<std::string> names;
        for (std::size_t offset = 0; offset < text.size(); offset += names.back().size() + 1)
            names.emplace_back(text.c_str() + offset);
        return names;
    };
    co_return co_await blocking(call);
}

task<result<void>> file::drop_attribute(std::string name) const {
    file_kernel& system = file_kernel::chosen_by(loop());
    const int number = opened_.number();
    auto call = [&system, number, &name]() -> result<void> {
        const int answer = system.remove_attribute(number, name.c_str());
        if (answer < 0) return error_from(answer);
        return {};
    };
    co_return co_await blocking(call);
}

}  // namespace kevring
