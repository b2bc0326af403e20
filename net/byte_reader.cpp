#include <kevring/net/byte_reader.hpp>

#include <span>
#include <utility>

namespace kevring {

task<result<std::string_view>> byte_reader::read_line(std::size_t byte_count_max,
                                                      std::string_view delimiter) {
    KEVRING_ASSERT(!delimiter.empty(), "read up to an empty delimiter; pass at least one byte");
    drop_consumed();
    std::size_t searched = 0;
    while (true) {
        const std::size_t found = bytes_.find(delimiter, searched);
        if (found != std::string::npos && found <= byte_count_max) {
            consumed_ = found + delimiter.size();
            co_return std::string_view(bytes_).substr(0, found);
        }
        const bool is_too_long =
            bytes_.size() >= delimiter.size() && bytes_.size() - delimiter.size() >= byte_count_max;
        if (is_too_long || found != std::string::npos)
            co_return error_from(std::errc::message_size);
        // A delimiter may be cut by the border of what has come.
        searched = bytes_.size() < delimiter.size() ? 0 : bytes_.size() - delimiter.size() + 1;
        const auto more = co_await receive_more();
        if (!more) co_return tl::unexpected(more.error());
        if (ended_)
            co_return error_from(bytes_.empty() ? std::errc::no_message
                                                : std::errc::connection_aborted);
    }
}

task<result<std::string_view>> byte_reader::read_exactly(std::size_t byte_count) {
    drop_consumed();
    while (bytes_.size() < byte_count) {
        const auto more = co_await receive_more();
        if (!more) co_return tl::unexpected(more.error());
        if (ended_) co_return error_from(std::errc::connection_aborted);
    }
    consumed_ = byte_count;
    co_return std::string_view(bytes_).substr(0, byte_count);
}

task<result<std::string_view>> byte_reader::read_to_end(std::size_t byte_count_max) {
    drop_consumed();
    while (!ended_ && bytes_.size() <= byte_count_max) {
        const auto more = co_await receive_more();
        if (!more) co_return tl::unexpected(more.error());
    }
    if (bytes_.size() > byte_count_max) co_return error_from(std::errc::message_size);
    consumed_ = bytes_.size();
    co_return std::string_view(bytes_);
}

task<result<detached_socket>> byte_reader::detach() {
    auto detached = co_await socket_.detach();
    if (detached) {
        const auto held = std::as_bytes(std::span(buffered()));
        detached->received.insert(detached->received.begin(), held.begin(), held.end());
    }
    bytes_.clear();
    consumed_ = 0;
    co_return detached;
}

task<result<void>> byte_reader::receive_more() {
    if (ended_) co_return result<void>();
    const auto got = co_await socket_.receive();
    if (!got) co_return tl::unexpected(got.error());
    if (got->empty()) ended_ = true;
    bytes_.append(reinterpret_cast<const char*>(got->data()), got->size());
    co_return result<void>();
}

void byte_reader::drop_consumed() {
    bytes_.erase(0, consumed_);
    consumed_ = 0;
}

}  // namespace kevring
