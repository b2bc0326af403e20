#include <kevring/runtime/fixed_buffer_pool.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/ring.hpp>

#include <cerrno>
#include <stdexcept>
#include <vector>

#include <sys/mman.h>
#include <sys/uio.h>

namespace kevring {
namespace detail {
namespace {

constexpr std::size_t buffer_bytes_max = std::size_t{1} << 30;
constexpr unsigned buffer_count_limit = 16384;  // of one table (io_uring_register(2))

// A limit on locked memory is the user's, so that another process that ends makes room. To be
// refused costs the look at all pages of a buffer: too much for each transfer, nothing once a
// second.
constexpr std::int64_t retry_after_ns = 1'000'000'000;

}  // namespace

/// The state that the pool and its buffers share; the last of them destroys it.
class fixed_buffer_pool_state {
public:
    fixed_buffer_pool_state(ring& loop, const fixed_buffer_pool_options& options)
        : loop_(loop),
          buffer_bytes_(options.buffer_bytes),
          buffer_count_max_(options.buffer_count_max) {
        if (buffer_bytes_ == 0 || buffer_bytes_ > buffer_bytes_max || buffer_count_max_ == 0 ||
            buffer_count_max_ > buffer_count_limit)
            throw std::invalid_argument(
                "kevring: a pool has 1 to 16384 fixed buffers of 1 byte to 1 GiB");
        idle_.reserve(buffer_count_max_);  // first: the return of a buffer must not fail
    }
    fixed_buffer_pool_state(const fixed_buffer_pool_state&) = delete;
    fixed_buffer_pool_state& operator=(const fixed_buffer_pool_state&) = delete;

    // Hot path: no allocation, no mutex, no system call.

    fixed_buffer try_acquire() noexcept {
        KEVRING_ASSERT(loop_.on_ring_thread(),
                       "registered buffer requested on another thread than its ring's; use the "
                       "pool of the calling thread's ring");
        if (loop_.created_by_parent_process()) return {};  // its memory is not there
        if (idle_.empty() && !add_one()) return {};
        const std::uint16_t index = idle_.back();
        idle_.pop_back();
        ++in_use_count_;
        return fixed_buffer(*this, bytes_of(index), index);
    }
    void recycle(std::uint16_t index) noexcept {
        idle_.push_back(index);  // within what is reserved
        --in_use_count_;
        if (closed_ && in_use_count_ == 0) delete this;  // last
    }

    // The rare cases.

    // The table is taken back only while no buffer is out: kernels before 6.13 would wait in that
    // call until they have no use for any of them.
    [[gnu::cold]] void close() noexcept {
        closed_ = true;
        // MADV_DONTFORK: another mapping may have the addresses in a child.
        if (loop_.created_by_parent_process()) memory_ = nullptr;
        if (in_use_count_ > 0) return;
        if (has_table_) loop_.register_resource(IORING_UNREGISTER_BUFFERS, nullptr, 0);
        delete this;
    }

    unsigned buffer_count() const noexcept { return buffer_count_; }
    unsigned in_use_count() const noexcept { return in_use_count_; }
    int last_error() const noexcept { return last_error_; }

private:
    ~fixed_buffer_pool_state() {
        if (memory_ != nullptr) ::munmap(memory_, buffer_bytes_ * buffer_count_max_);
    }

    std::span<std::byte> bytes_of(unsigned index) const noexcept {
        return {memory_ + index * buffer_bytes_, buffer_bytes_};
    }

    [[gnu::cold]] bool add_one() noexcept {
        if (buffer_count_ == buffer_count_max_) return false;
        if (last_error_ != 0 && loop_.now_ns() < retry_at_ns_) return false;
        last_error_ = reserve();
        if (last_error_ == 0) last_error_ = make_table();
        if (last_error_ == 0) last_error_ = fill_next();
        if (last_error_ != 0) {
            retry_at_ns_ = loop_.now_ns() + retry_after_ns;
            return false;
        }
        idle_.push_back(static_cast<std::uint16_t>(buffer_count_++));
        return true;
    }

    // These give an errno, or 0.

    int reserve() noexcept {
        if (memory_ != nullptr) return 0;
        const std::size_t byte_count = buffer_bytes_ * buffer_count_max_;
        void* const memory = ::mmap(nullptr, byte_count, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) return ENOMEM;
        // Locked pages cannot be shared with a child until one of the two writes: fork() would copy
        // them all, for a child that may not use the ring.
        ::madvise(memory, byte_count, MADV_DONTFORK);
        // The kernel charges a zero-copy send from a huge page for the bytes between the begin of
        // that page and the end of the send, up to 2 MiB instead of 128 KiB: the second send then
        // waits for the peer. A kernel without huge pages refuses this with EINVAL.
        ::madvise(memory, byte_count, MADV_NOHUGEPAGE);
        memory_ = static_cast<std::byte*>(memory);
        return 0;
    }

    int make_table() noexcept {
        if (has_table_) return 0;
        io_uring_rsrc_register table{};
        table.nr = buffer_count_max_;
        table.flags = IORING_RSRC_REGISTER_SPARSE;
        const int made = loop_.register_resource(IORING_REGISTER_BUFFERS2, &table, sizeof table);
        has_table_ = made >= 0;
        return has_table_ ? 0 : -made;
    }

    int fill_next() noexcept {
        const std::span<std::byte> bytes = bytes_of(buffer_count_);
        const iovec buffer{bytes.data(), bytes.size()};
        io_uring_rsrc_update2 update{};
        update.offset = buffer_count_;
        update.data = reinterpret_cast<std::uintptr_t>(&buffer);
        update.nr = 1;
        const int filled =
            loop_.register_resource(IORING_REGISTER_BUFFERS_UPDATE, &update, sizeof update);
        return filled < 0 ? -filled : 0;
    }

    // Constant after construction.
    ring& loop_;  // not used once closed: it may be gone before the last buffer
    const std::size_t buffer_bytes_;
    const unsigned buffer_count_max_;

    std::byte* memory_ = nullptr;
    bool has_table_ = false;
    bool closed_ = false;
    int last_error_ = 0;  // an errno
    std::int64_t retry_at_ns_ = 0;
    unsigned buffer_count_ = 0;
    unsigned in_use_count_ = 0;
    std::vector<std::uint16_t> idle_;  // the one used last at the end
};

}  // namespace detail

fixed_buffer::~fixed_buffer() {
    if (pool_ != nullptr) pool_->recycle(index_);
}

fixed_buffer_pool::fixed_buffer_pool(ring& loop, const fixed_buffer_pool_options& options)
    : state_(new detail::fixed_buffer_pool_state(loop, options)) {}
fixed_buffer_pool::~fixed_buffer_pool() { state_->close(); }
fixed_buffer fixed_buffer_pool::try_acquire() noexcept { return state_->try_acquire(); }
unsigned fixed_buffer_pool::buffer_count() const noexcept { return state_->buffer_count(); }
unsigned fixed_buffer_pool::in_use_count() const noexcept { return state_->in_use_count(); }
std::error_code fixed_buffer_pool::last_error() const noexcept {
    return {state_->last_error(), std::system_category()};
}

}  // namespace kevring
