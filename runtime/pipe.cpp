// pipe.cpp: see pipe.hpp.
#include <kevring/runtime/pipe.hpp>

#include <kevring/runtime/operations/poll.hpp>
#include <kevring/runtime/process_kernel.hpp>

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <poll.h>

namespace kevring {
namespace {

constexpr std::size_t read_bytes = 16 * 1024;

}  // namespace

task<result<std::size_t>> pipe_reader::read(std::span<std::byte> buffer) {
    if (!end_) co_return error_from(std::errc::bad_file_descriptor);
    if (buffer.empty()) co_return error_from(std::errc::invalid_argument);
    read_operation request(*ring_, end_, buffer);
    co_return co_await request;
}

task<result<void>> pipe_reader::read_all(std::string& text, std::size_t byte_count_max) {
    const std::size_t begin = text.size();
    while (true) {
        const std::size_t used = text.size();
        // One byte more than allowed shows that there are more.
        const std::size_t left = byte_count_max - (used - begin);
        const std::size_t wanted = left < read_bytes ? left + 1 : read_bytes;
        text.resize(used + wanted);
        const auto got =
            co_await read(std::as_writable_bytes(std::span(text.data() + used, wanted)));
        const std::size_t count = got ? *got : 0;
        text.resize(used + std::min(count, left));
        if (!got) co_return tl::unexpected<std::error_code>(got.error());
        if (count == 0) co_return result<void>();
        if (count > left) co_return error_from(std::errc::message_size);
    }
}

pipe_writer::pipe_writer(ring& loop, fd end) noexcept : ring_(&loop), end_(std::move(end)) {
    if (!end_) return;
    const int flags = ::fcntl(end_.number(), F_GETFL);
    if (flags >= 0) ::fcntl(end_.number(), F_SETFL, flags | O_NONBLOCK);
}

task<write_result> pipe_writer::write(std::span<const std::byte> bytes) {
    std::size_t written = 0;
    if (!end_) co_return write_result(error_from(std::errc::bad_file_descriptor), written);
    while (written != bytes.size()) {
        poll_operation writable(*ring_, end_, POLLOUT);
        const auto ready = co_await writable;
        if (!ready) co_return write_result(tl::unexpected<std::error_code>(ready.error()), written);
        const auto rest = bytes.subspan(written);
        const ssize_t count = process_kernel::chosen_by(*ring_).write_without_signal(
            end_.number(), rest.data(), rest.size());
        if (count >= 0)
            written += static_cast<std::size_t>(count);
        else if (count != -EAGAIN && count != -EINTR)
            co_return write_result(error_from(static_cast<std::int32_t>(count)), written);
    }
    co_return write_result(written);
}

task<write_result> pipe_writer::write(std::string_view text) {
    return write(std::as_bytes(std::span(text)));
}

result<pipe_pair> open_pipe(ring& loop) {
    int ends[2] = {-1, -1};
    const int answer = process_kernel::chosen_by(loop).open_pipe(ends);
    if (answer < 0) return error_from(answer);
    return pipe_pair{pipe_reader(loop, fd(ends[0])), pipe_writer(loop, fd(ends[1]))};
}

}  // namespace kevring
