#include <kevring/runtime/file_reader.hpp>

#include <kevring/runtime/detail/byte_count.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/reset_event.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <new>
#include <utility>
#include <vector>

namespace kevring {
namespace {

constexpr std::align_val_t alignment{4096};
constexpr std::uint64_t offset_max = std::numeric_limits<std::int64_t>::max();
constexpr std::size_t block_count_max = 1024;

struct aligned_delete {
    void operator()(std::byte* bytes) const noexcept { ::operator delete(bytes, alignment); }
};

// One read ahead, which repeats short reads until it is full. It belongs to the reader, and after that
// to the kernel until the read completes.
class block final : public completion {
public:
    block(ring& loop, fd_ref file, std::size_t byte_count, manual_reset_event& ready)
        : loop_(loop),
          file_(file),
          byte_count_(byte_count),
          bytes_(static_cast<std::byte*>(::operator new(byte_count, alignment))),
          ready_(&ready) {}
    ~block() = default;

    void read(std::uint64_t file_offset) noexcept {
        file_offset_ = file_offset;
        used_ = 0;
        proceed();
    }
    void proceed() noexcept {
        error_ = 0;
        in_flight_ = true;
        loop_.queue(*this);
    }
    /// Deletes itself, now or when its read has completed.
    void abandon() noexcept {
        ready_ = nullptr;
        if (!in_flight_)
            delete this;
        else if (!loop_.created_by_parent_process())
            loop_.queue_cancel(*this);
    }
    void complete(std::int32_t res, std::uint32_t) noexcept override {
        in_flight_ = false;
        if (ready_ == nullptr) {
            delete this;
            return;
        }
        if (res > 0) used_ += static_cast<std::size_t>(res);
        if (res == -EINTR || (res > 0 && used_ < byte_count_)) {
            proceed();
            return;
        }
        error_ = res < 0 ? res : 0;
        ready_->set();
    }
    void prepare(io_uring_sqe& sqe) noexcept override {
        io_uring_prep_read(&sqe, file_.number(), bytes_.get() + used_,
                           detail::byte_count(byte_count_ - used_), file_offset_ + used_);
    }

    bool in_flight() const noexcept { return in_flight_; }
    std::int32_t error() const noexcept { return error_; }
    std::size_t used() const noexcept { return used_; }
    std::span<const std::byte> bytes() const noexcept { return {bytes_.get(), used_}; }

private:
    ring& loop_;
    const fd_ref file_;
    const std::size_t byte_count_;
    const std::unique_ptr<std::byte, aligned_delete> bytes_;
    manual_reset_event* ready_;  // null after abandon()
    std::uint64_t file_offset_ = 0;
    std::size_t used_ = 0;
    std::int32_t error_ = 0;
    bool in_flight_ = false;
};

struct abandon_block {
    void operator()(block* left) const noexcept { left->abandon(); }
};

}  // namespace

class file_reader::state {
public:
    state(ring& on_loop, fd_ref opened, const file_reader_options& wanted)
        : loop(on_loop),
          options{wanted.file_offset,
                  std::clamp<std::size_t>(wanted.block_bytes, 1, detail::byte_count_max),
                  wanted.block_count},
          given_offset(wanted.file_offset),
          next_offset(wanted.file_offset) {
        const std::size_t count = std::clamp<std::size_t>(wanted.block_count, 1, block_count_max);
        blocks.reserve(count);
        for (std::size_t i = 0; i < count; ++i)
            blocks.push_back(std::unique_ptr<block, abandon_block>(
                new block(on_loop, opened, options.block_bytes, ready)));
    }

    void start(block& free) noexcept {
        free.read(next_offset);
        // Beyond the largest offset the file has ended; a sum that wraps round could be its position.
        next_offset += std::min<std::uint64_t>(options.block_bytes, offset_max - next_offset);
    }

    ring& loop;
    const file_reader_options options;
    manual_reset_event ready;
    std::vector<std::unique_ptr<block, abandon_block>> blocks;  // in the order of the file
    std::uint64_t given_offset;
    std::uint64_t next_offset;
    bool started = false;
    bool given = false;  // the consumer has the bytes of the first block
    bool ended = false;
};

void file_reader::state_end::operator()(state* ended) const noexcept { delete ended; }

file_reader::file_reader(ring& loop, fd_ref file, const file_reader_options& options)
    : state_(new state(loop, file, options)) {}
file_reader::file_reader(file_reader&& other) noexcept = default;
file_reader& file_reader::operator=(file_reader&& other) noexcept = default;
file_reader::~file_reader() = default;

std::uint64_t file_reader::file_offset() const noexcept {
    return state_ != nullptr ? state_->given_offset : 0;
}

task<result<std::span<const std::byte>>> file_reader::next() {
    if (state_ == nullptr) co_return error_from(std::errc::bad_file_descriptor);
    state& reader = *state_;
    if (reader.loop.created_by_parent_process())
        co_return error_from(std::errc::operation_not_permitted);
    if (reader.given_offset > offset_max) co_return error_from(std::errc::invalid_argument);
    if (!reader.started) {
        reader.started = true;
        for (auto& each : reader.blocks) reader.start(*each);
    }
    if (reader.given && !reader.ended) {
        // Its bytes are consumed: it becomes the last one.
        reader.start(*reader.blocks.front());
        std::rotate(reader.blocks.begin(), reader.blocks.begin() + 1, reader.blocks.end());
    }
    reader.given = false;
    block& first = *reader.blocks.front();
    while (!reader.ended && first.in_flight()) {
        reader.ready.reset();
        const auto waited = co_await reader.ready.wait();
        if (!waited) co_return tl::unexpected<std::error_code>(waited.error());
    }
    if (reader.ended) co_return std::span<const std::byte>();
    if (const std::int32_t error = first.error(); error < 0) {
        first.proceed();
        co_return error_from(error);
    }
    reader.given_offset += first.used();
    reader.ended = first.used() < reader.options.block_bytes;
    reader.given = true;
    co_return first.bytes();
}

}  // namespace kevring
