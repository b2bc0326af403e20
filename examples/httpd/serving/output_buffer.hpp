// output_buffer.hpp: responses that wait to be sent together.
#pragma once

#include "worker.hpp"

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

namespace httpd {

/// Bytes of responses that wait to be sent, in a block of the worker's that is held until then.
class output_buffer {
public:
    explicit output_buffer(worker& owner) noexcept : worker_(owner) {}
    output_buffer(const output_buffer&) = delete;
    output_buffer& operator=(const output_buffer&) = delete;
    ~output_buffer() { clear(); }

    std::size_t room() const noexcept { return sizeof(send_block) - byte_count_; }
    bool empty() const noexcept { return byte_count_ == 0; }
    std::string_view bytes() const noexcept {
        return block_ ? std::string_view(block_->data(), byte_count_) : std::string_view();
    }
    /// The place for the next bytes; commit() counts them.
    char* write_position() {
        if (!block_)
            block_ = worker_.acquire_block();
        else if (block_.use_count() > 1)
            copy();
        return block_->data() + byte_count_;
    }
    void commit(std::size_t byte_count) noexcept { byte_count_ += byte_count; }
    /// Appends bytes; there is room for them.
    void append(std::string_view bytes) {
        bytes.copy(write_position(), bytes.size());
        commit(bytes.size());
    }
    /// If the buffer is empty: sends the first bytes of a block that other buffers may send too.
    /// Bytes that are appended go into another block.
    void share(std::shared_ptr<send_block> block, std::size_t byte_count) noexcept {
        clear();
        block_ = std::move(block);
        byte_count_ = byte_count;
    }
    /// The block of bytes(); for share().
    const std::shared_ptr<send_block>& block() const noexcept { return block_; }
    /// Drops the bytes after the first `byte_count`.
    void truncate(std::size_t byte_count) noexcept { byte_count_ = byte_count; }
    /// The first `byte_count` bytes have been sent.
    void consume(std::size_t byte_count) {
        if (byte_count == byte_count_) return clear();
        write_position();  // copies a shared block first
        byte_count_ -= byte_count;
        std::memmove(block_->data(), block_->data() + byte_count, byte_count_);
    }
    std::size_t size() const noexcept { return byte_count_; }
    std::span<char> prepare() { return {write_position(), room()}; }
    void clear() noexcept {
        if (block_) worker_.release_block(std::move(block_));
        byte_count_ = 0;
    }

private:
    void copy() {
        std::shared_ptr<send_block> own = worker_.acquire_block();
        std::memcpy(own->data(), block_->data(), byte_count_);
        worker_.release_block(std::exchange(block_, std::move(own)));
    }

    worker& worker_;
    std::shared_ptr<send_block> block_;
    std::size_t byte_count_ = 0;
};

}  // namespace httpd
