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

/// Bytes of responses that wait to be sent, in a block of the worker's that is held only meanwhile.
class outbox {
public:
    explicit outbox(worker& of) noexcept : of_(of) {}
    outbox(const outbox&) = delete;
    outbox& operator=(const outbox&) = delete;
    ~outbox() { clear(); }

    std::size_t room() const noexcept { return sizeof(send_block) - byte_count_; }
    bool empty() const noexcept { return byte_count_ == 0; }
    std::string_view bytes() const noexcept {
        return block_ ? std::string_view(block_->data(), byte_count_) : std::string_view();
    }
    /// Where the next bytes go; added() tells how many came.
    char* end() {
        if (!block_)
            block_ = of_.take_block();
        else if (block_.use_count() > 1)
            copy();
        return block_->data() + byte_count_;
    }
    void added(std::size_t byte_count) noexcept { byte_count_ += byte_count; }
    /// Appends bytes that there is room for.
    void add(std::string_view bytes) {
        bytes.copy(end(), bytes.size());
        added(bytes.size());
    }
    /// Where nothing waits: sends the first bytes of a block that others may send too. What is
    /// appended goes into a block of its own.
    void share(std::shared_ptr<send_block> block, std::size_t byte_count) noexcept {
        clear();
        block_ = std::move(block);
        byte_count_ = byte_count;
    }
    /// What bytes() are in; for share().
    const std::shared_ptr<send_block>& block() const noexcept { return block_; }
    /// Takes back what was added to the first `byte_count` bytes.
    void cut_to(std::size_t byte_count) noexcept { byte_count_ = byte_count; }
    /// The first `byte_count` bytes have been sent.
    void sent(std::size_t byte_count) {
        if (byte_count == byte_count_) return clear();
        end();  // not in what others send
        byte_count_ -= byte_count;
        std::memmove(block_->data(), block_->data() + byte_count, byte_count_);
    }
    std::size_t size() const noexcept { return byte_count_; }
    std::span<char> space() { return {end(), room()}; }
    void clear() noexcept {
        if (block_) of_.give_block(std::move(block_));
        byte_count_ = 0;
    }

private:
    void copy() {
        std::shared_ptr<send_block> own = of_.take_block();
        std::memcpy(own->data(), block_->data(), byte_count_);
        of_.give_block(std::exchange(block_, std::move(own)));
    }

    worker& of_;
    std::shared_ptr<send_block> block_;
    std::size_t byte_count_ = 0;
};

}  // namespace httpd
