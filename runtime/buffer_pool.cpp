#include <kevring/runtime/buffer_pool.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/buffer_pool_state.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/ring.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <sys/mman.h>

namespace kevring {
namespace detail {
namespace {

constexpr std::size_t page_bytes = 4096;
constexpr unsigned surplus_period =
    64;  // buffers that are recycled between two checks of the surplus
// The bytes of a large buffer begin with a cache line: the kernel copies a tenth faster to there.
constexpr std::size_t large_alignment_bytes = 64;
constexpr std::size_t large_piece_offset = large_alignment_bytes - sizeof(spilled_chunk);
static_assert(sizeof(spilled_chunk) <= large_alignment_bytes);
constexpr unsigned buffer_count_limit = 32768;  // of one group (io_uring_register(2))

// Memory that costs nothing until it is touched; the kernel wants the entries on a page's begin.
void* reserve(std::size_t bytes) {
    void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return memory;
}

}  // namespace

// Hot path: no allocation, no mutex, no system call.

void buffer_pool_state::provide(std::uint16_t index) noexcept {
    io_uring_buf& entry = entries_->bufs[tail_ & (entry_count_ - 1)];
    entry.addr = reinterpret_cast<std::uintptr_t>(memory_ + index * buffer_bytes_);
    entry.len = static_cast<std::uint32_t>(buffer_bytes_);
    entry.bid = index;
    ++tail_;
    ++provided_count_;
    // release: pairs with the kernel's acquire of the tail, after which it reads the entry.
    __atomic_store_n(&entries_->tail, tail_, __ATOMIC_RELEASE);
}

borrowed_buffer buffer_pool_state::lend(std::uint16_t index) noexcept {
    ++borrowed_count_;
    ref();
    return borrowed_buffer(*this, index, memory_ + index * buffer_bytes_, slots_[index].byte_count);
}

void buffer_pool_state::recycle(std::uint16_t index) noexcept {
    if (closed_) return;
    if (++return_count_ % surplus_period == 0) update_surplus();
    if (surplus_count_ > 0) [[unlikely]] {
        --surplus_count_;
        retire(index);
        return;
    }
    provide(index);
    if (waiters_.linked() && !resume_scheduled_) [[unlikely]] {
        resume_scheduled_ = true;
        ref();  // until the feeder has run
        loop_.schedule(resume_work_);
    }
}

// A pool that is closed may be older than its ring.
inline void buffer_pool_state::check_thread() const noexcept {
    KEVRING_ASSERT(
        closed_ || loop_.on_ring_thread(),
        "borrowed buffer destroyed on another thread than its ring's; copy its bytes for "
        "the other thread");
}

void buffer_pool_state::recycle_borrowed(std::uint16_t index) noexcept {
    check_thread();
    --borrowed_count_;
    recycle(index);
    unref();  // last: this may be gone
}

// The rare cases.

// Half of what has lain idle is too much, as long as the pool is larger than at its beginning: the
// kernel takes buffers in turn, so each that is too many pushes another out of the caches.
void buffer_pool_state::update_surplus() noexcept {
    // Up to here a pool stays as it is: one that has become too small ends every request on it
    // once, which costs far more than buffers that lie idle.
    const unsigned kept_count = count_min_ * 16;
    if (idle_count_min_ > kept_count) surplus_count_ = (idle_count_min_ - kept_count) / 2;
    idle_count_min_ = provided_count_;
}

void buffer_pool_state::retire(std::uint16_t index) noexcept {
    retired_.push_back(index);  // within what is reserved
    if (buffer_bytes_ % page_bytes == 0) {
        ::madvise(memory_ + index * buffer_bytes_, buffer_bytes_, MADV_DONTNEED);
        resident_bytes_ -= std::exchange(slots_[index].touched_bytes, 0U);
    }
}

buffer_pool_state::resume_work::resume_work(buffer_pool_state& self) noexcept
    : work([](work& item) noexcept { static_cast<resume_work&>(item).self.resume_waiters(); }),
      self(self) {}

// Arms as many receivers as there are buffers. Which of them has bytes, only the kernel knows: as
// long as a buffer is left after their completions, the next receivers are armed.
void buffer_pool_state::resume_waiters() noexcept {
    // resume_scheduled_ stays true: a buffer that is recycled must not schedule the work again.
    for (unsigned count = provided_count_; count > 0 && waiters_.linked(); --count) {
        auto& first = static_cast<buffer_waiter&>(*waiters_.next);
        first.unlink();
        first.on_buffer_available(first);
    }
    if (provided_count_ > 0 && waiters_.linked()) {
        loop_.schedule(resume_work_);
        return;
    }
    resume_scheduled_ = false;
    unref();  // last: this may be gone
}

buffer_pool_state::buffer_pool_state(ring& loop, const buffer_pool_options& options)
    : loop_(loop),
      buffer_bytes_(options.buffer_bytes),
      count_min_(options.buffer_count),
      count_max_(std::max(options.buffer_count, options.buffer_count_max)),
      resident_bytes_max_(options.resident_bytes_max),
      large_buffer_bytes_(options.large_buffer_bytes),
      large_count_max_(options.large_buffer_count_max) {
    if (buffer_bytes_ < 64 || buffer_bytes_ > (std::size_t{1} << 30) || options.buffer_count == 0 ||
        count_max_ > buffer_count_limit)
        throw std::invalid_argument(
            "kevring: a buffer pool has 1 to 32768 buffers of 64 bytes to 1 GiB");
    if (large_buffer_bytes_ > (std::size_t{1} << 30) ||
        (large_buffer_bytes_ != 0 && large_buffer_bytes_ < buffer_bytes_))
        throw std::invalid_argument(
            "kevring: the large buffers of a pool are no smaller than the others, and at most "
            "1 GiB");
    entry_count_ = std::bit_ceil(count_max_);
    slots_.reserve(count_max_);
    retired_.reserve(count_max_);
    memory_ = static_cast<std::byte*>(reserve(count_max_ * buffer_bytes_));
    try {
        entries_ = static_cast<io_uring_buf_ring*>(reserve(entry_count_ * sizeof(io_uring_buf)));
    } catch (...) {
        ::munmap(memory_, count_max_ * buffer_bytes_);
        throw;
    }
    try {
        group_ = loop_.acquire_buffer_group();
    } catch (...) {
        free_memory();
        throw;
    }
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uintptr_t>(entries_);
    registration.ring_entries = entry_count_;
    registration.bgid = group_;
    const int registered = loop_.register_resource(IORING_REGISTER_PBUF_RING, &registration, 1);
    if (registered < 0) {
        loop_.release_buffer_group(group_);
        free_memory();
        throw std::system_error(-registered, std::system_category(),
                                "kevring: registering a buffer ring");
    }
    grow(options.buffer_count);
}

buffer_pool_state::~buffer_pool_state() {
    while (large_idle_ != nullptr)
        spilled_chunk::free(std::exchange(large_idle_, large_idle_->next));
    free_memory();
}

void buffer_pool_state::free_memory() noexcept {
    ::munmap(memory_, count_max_ * buffer_bytes_);
    ::munmap(entries_, entry_count_ * sizeof(io_uring_buf));
}

void buffer_pool_state::unref() noexcept {
    if (--ref_count_ == 0) delete this;
}

void buffer_pool_state::grow(unsigned count) {
    surplus_count_ = 0;
    for (; count > 0 && !retired_.empty(); --count) {
        provide(retired_.back());
        retired_.pop_back();
    }
    // Those with the kernel may all be filled.
    const auto has_room = [this] {
        return resident_bytes_ + (provided_count_ + 1) * buffer_bytes_ <= resident_bytes_max_;
    };
    for (; count > 0 && slots_.size() < count_max_ && (slots_.size() < count_min_ || has_room());
         --count) {
        const auto index = static_cast<std::uint16_t>(slots_.size());
        slots_.emplace_back();  // within what is reserved
        provide(index);
    }
}

void buffer_pool_state::on_exhausted() noexcept {
    ++starved_count_;
    if (closed_) return;
    // A burst is refused within one iteration: the growth for the first may suffice for all.
    const std::uint64_t iteration = loop_.counters().iterations;
    if (provided_count_ == 0 || iteration != grown_in_iteration_) grow(buffer_count());
    grown_in_iteration_ = iteration;
    reclaim();
}

bool buffer_pool_state::ready_or_wait(buffer_waiter& receiver) noexcept {
    if (closed_) return true;  // nothing is armed any more
    if (provided_count_ == 0) grow(buffer_count());
    reclaim();
    if (provided_count_ > 0) return true;
    if (!receiver.linked()) receiver.insert_before(waiters_);
    return false;
}

// Peers that send ahead, and whose bytes no task reads, can hold every buffer; a receiver that a
// task awaits must have one all the same. The bytes that each can send ahead are bounded, and so is
// the cost.
void buffer_pool_state::reclaim() noexcept {
    while (provided_count_ == 0 && holders_.linked()) {
        auto& first = static_cast<buffer_holder&>(*holders_.next);
        first.unlink();
        first.spill(first);
    }
}

spilled_chunk* spilled_chunk::allocate(std::size_t byte_count_max) noexcept {
    void* const memory =
        std::malloc(sizeof(spilled_chunk) + byte_count_max + sizeof(spilled_chunk*));
    return memory == nullptr ? nullptr : new (memory) spilled_chunk;
}

spilled_chunk* spilled_chunk::copy(std::span<const std::byte> bytes) noexcept {
    spilled_chunk* const piece = allocate(bytes.size());
    if (piece == nullptr) return nullptr;
    piece->byte_count = static_cast<std::uint32_t>(bytes.size());
    std::memcpy(piece->bytes(), bytes.data(), bytes.size());
    piece->seal();
    return piece;
}

spilled_chunk* buffer_pool_state::spill(std::uint16_t index) noexcept {
    spilled_chunk* const piece =
        spilled_chunk::copy({memory_ + index * buffer_bytes_, slots_[index].byte_count});
    if (piece != nullptr) recycle(index);
    return piece;
}

void spilled_chunk::seal() noexcept {
    spilled_chunk* const self = this;
    std::memcpy(bytes() + byte_count, &self, sizeof self);
}

void buffer_pool_state::touch(slot& filled, std::size_t byte_count) noexcept {
    const std::size_t touched =
        std::min((byte_count + page_bytes - 1) / page_bytes * page_bytes, buffer_bytes_);
    resident_bytes_ += touched - filled.touched_bytes;
    filled.touched_bytes = static_cast<std::uint32_t>(touched);
}

spilled_chunk* buffer_pool_state::take_large() noexcept {
    if (large_idle_ != nullptr) [[likely]] {
        --large_idle_count_;
        large_idle_min_ = std::min(large_idle_min_, large_idle_count_);
        spilled_chunk* const piece = std::exchange(large_idle_, large_idle_->next);
        piece->next = nullptr;
        return piece;
    }
    large_idle_min_ = 0;
    if (large_count_ >= large_count_max_) return nullptr;
    const std::size_t wanted_bytes =
        large_alignment_bytes + large_buffer_bytes_ + sizeof(spilled_chunk*);
    auto* const memory = static_cast<std::byte*>(std::aligned_alloc(
        large_alignment_bytes, (wanted_bytes + large_alignment_bytes - 1) / large_alignment_bytes *
                                   large_alignment_bytes));
    if (memory == nullptr) return nullptr;
    ++large_count_;
    auto* const piece = new (memory + large_piece_offset) spilled_chunk;
    piece->is_large = true;
    return piece;
}

// Buffers that lay idle through a whole period were needed by a burst that is over.
void buffer_pool_state::recycle(spilled_chunk& piece) noexcept {
    if (!piece.is_large) return spilled_chunk::free(&piece);
    const bool surplus = ++large_return_count_ % surplus_period == 0 &&
                         std::exchange(large_idle_min_, large_idle_count_) > 0;
    if (closed_ || surplus) {
        --large_count_;
        return spilled_chunk::free(&piece);
    }
    piece.next = large_idle_;
    large_idle_ = &piece;
    ++large_idle_count_;
}

spilled_chunk* spilled_chunk::ending_at(const std::byte* end) noexcept {
    spilled_chunk* piece = nullptr;
    std::memcpy(&piece, end, sizeof piece);
    return piece;
}

void spilled_chunk::free(spilled_chunk* piece) noexcept {
    auto* const memory = reinterpret_cast<std::byte*>(piece);
    std::free(piece->is_large ? memory - large_piece_offset : memory);
}

borrowed_buffer buffer_pool_state::lend(spilled_chunk& piece) noexcept {
    ref();
    return borrowed_buffer(*this, borrowed_buffer::no_index, piece.bytes(), piece.byte_count);
}

void buffer_pool_state::recycle_borrowed(spilled_chunk& piece) noexcept {
    check_thread();
    recycle(piece);
    unref();  // last: this may be gone
}

void buffer_pool_state::close() noexcept {
    closed_ = true;
    io_uring_buf_reg registration{};
    registration.bgid = group_;
    loop_.register_resource(IORING_UNREGISTER_PBUF_RING, &registration, 1);
    if (request_count_ == 0) release_group();
    while (waiters_.linked()) {
        auto& first = static_cast<buffer_waiter&>(*waiters_.next);
        first.unlink();
        first.on_buffer_available(first);
    }
    unref();  // last
}

// A request that still names the number would receive into the buffers of the next pool.
void buffer_pool_state::release_group() noexcept { loop_.release_buffer_group(group_); }

}  // namespace detail

void borrowed_buffer::remove_prefix(std::size_t count) noexcept {
    KEVRING_ASSERT(count <= byte_count_,
                   "more bytes removed than the buffer holds; remove at most size()");
    data_ += count;
    byte_count_ -= static_cast<std::uint32_t>(count);
}

void borrowed_buffer::return_to_pool() noexcept {
    if (pool_ == nullptr) return;
    if (index_ != no_index) [[likely]]
        return pool_->recycle_borrowed(index_);
    pool_->recycle_borrowed(*detail::spilled_chunk::ending_at(data_ + byte_count_));
}

buffer_pool::buffer_pool(ring& loop) : buffer_pool(loop, buffer_pool_options::ring_default()) {}
buffer_pool::buffer_pool(ring& loop, const buffer_pool_options& options)
    : state_(new detail::buffer_pool_state(loop, options)) {}
buffer_pool::~buffer_pool() { state_->close(); }
unsigned buffer_pool::buffer_count() const noexcept { return state_->buffer_count(); }
unsigned buffer_pool::borrowed_count() const noexcept { return state_->borrowed_count(); }
unsigned buffer_pool::large_buffer_count() const noexcept { return state_->large_buffer_count(); }
std::size_t buffer_pool::resident_bytes() const noexcept { return state_->resident_bytes(); }
std::uint64_t buffer_pool::starved_count() const noexcept { return state_->starved_count(); }

}  // namespace kevring
