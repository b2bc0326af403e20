// buffer_pool_state.hpp: the state that a pool, its streams and its buffers share; the last of them
// destroys it.
#pragma once

#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/work.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

struct io_uring_buf_ring;

namespace kevring::detail {

/// A receiver that waits until a buffer is returned.
struct buffer_waiter : list_link {
    using function = void (*)(buffer_waiter&) noexcept;
    explicit buffer_waiter(function on_buffer_available) noexcept
        : on_buffer_available(on_buffer_available) {}
    function on_buffer_available;
};

/// A receiver with buffers that no task has taken yet.
struct buffer_holder : list_link {
    using function = void (*)(buffer_holder&) noexcept;
    explicit buffer_holder(function spill) noexcept : spill(spill) {}
    function spill;  // moves what it holds out of the pool's buffers, as far as there is memory
};

/// Bytes that had to make room: in memory of their own. They follow the piece, and behind them is
/// its address, since a buffer that is out knows its end, and not how much it has lost in front.
/// A buffer of the second class has the same form.
struct spilled_chunk {
    spilled_chunk* next = nullptr;
    std::uint32_t byte_count = 0;
    bool is_large = false;  // of the second class

    std::byte* bytes() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
    static spilled_chunk* ending_at(const std::byte* end) noexcept;
    /// Writes the address behind the last byte.
    void seal() noexcept;
    static void free(spilled_chunk* piece) noexcept;
    /// A piece with room for `byte_count_max` bytes and none in it; null: there is no memory. The
    /// caller sets byte_count and seals it.
    static spilled_chunk* allocate(std::size_t byte_count_max) noexcept;
    /// A piece with a copy of `bytes`; null: there is no memory.
    static spilled_chunk* copy(std::span<const std::byte> bytes) noexcept;
};

class buffer_pool_state {
public:
    // A buffer between the kernel's answer and the program: a link in a receiver's queue.
    struct slot {
        std::uint32_t byte_count = 0;
        std::uint32_t touched_bytes = 0;  // of its memory, in whole pages
        std::uint16_t next = 0;
    };

    buffer_pool_state(ring& loop, const buffer_pool_options& options);
    buffer_pool_state(const buffer_pool_state&) = delete;
    buffer_pool_state& operator=(const buffer_pool_state&) = delete;

    void ref() noexcept { ++ref_count_; }
    void unref() noexcept;
    /// The pool is destroyed: the kernel gets no more buffers, and waiting receivers are resumed.
    void close() noexcept;
    /// A request that names the group is queued or in flight. The group's number is free for
    /// another pool when the pool is closed and as many request_ended() have come.
    void request_begun() noexcept { ++request_count_; }
    void request_ended() noexcept {
        if (--request_count_ == 0 && closed_) [[unlikely]]
            release_group();
    }

    std::uint16_t group() const noexcept { return group_; }
    bool closed() const noexcept { return closed_; }
    slot& at(std::uint16_t index) noexcept { return slots_[index]; }

    /// The kernel has filled buffer `index` with `byte_count` bytes; the caller owes give_back() or
    /// lend().
    void mark_selected(std::uint16_t index, std::size_t byte_count) noexcept {
        --provided_count_;
        if (provided_count_ < idle_count_min_) idle_count_min_ = provided_count_;
        slot& filled = slots_[index];
        if (byte_count > filled.touched_bytes) [[unlikely]]
            touch(filled, byte_count);
    }
    /// A buffer of the second class without bytes; null: its bound is reached, or there is no
    /// memory. The caller owes it to lend() or give_back().
    spilled_chunk* take_large() noexcept;
    void recycle(spilled_chunk& piece) noexcept;
    std::size_t buffer_bytes() const noexcept { return buffer_bytes_; }
    std::size_t large_buffer_bytes() const noexcept { return large_buffer_bytes_; }
    kernel& system() const noexcept { return loop_.system(); }
    /// `receiver` holds buffers while no task awaits them: they are copied out of the pool when
    /// others find none.
    void add_holder(buffer_holder& receiver) noexcept {
        if (!receiver.linked()) receiver.insert_before(holders_);
    }
    /// Copies the bytes of buffer `index` and returns it to the pool; null: there is no memory.
    spilled_chunk* spill(std::uint16_t index) noexcept;
    /// The same as lend(), for what was spilled.
    borrowed_buffer lend(spilled_chunk& piece) noexcept;
    /// Buffer `index` as a value that returns itself to the pool.
    borrowed_buffer lend(std::uint16_t index) noexcept;
    void recycle(std::uint16_t index) noexcept;
    /// As give_back(), for a buffer that has been lent.
    void recycle_borrowed(std::uint16_t index) noexcept;
    void recycle_borrowed(spilled_chunk& piece) noexcept;

    /// The kernel found no buffer: adds some, within the bound.
    void on_exhausted() noexcept;
    /// True when the kernel has buffers to pick from; false: `receiver` is called later.
    bool ready_or_wait(buffer_waiter& receiver) noexcept;

    unsigned buffer_count() const noexcept {
        return static_cast<unsigned>(slots_.size() - retired_.size());
    }
    unsigned borrowed_count() const noexcept { return borrowed_count_; }
    unsigned large_buffer_count() const noexcept { return large_count_; }
    std::size_t resident_bytes() const noexcept { return resident_bytes_; }
    std::uint64_t starved_count() const noexcept { return starved_count_; }

private:
    ~buffer_pool_state();
    void check_thread() const noexcept;
    void touch(slot& filled, std::size_t byte_count) noexcept;
    void free_memory() noexcept;
    void release_group() noexcept;
    void grow(unsigned count);
    void resume_waiters() noexcept;
    void reclaim() noexcept;
    void provide(std::uint16_t index) noexcept;
    void retire(std::uint16_t index) noexcept;
    void update_surplus() noexcept;

    // Constant after construction.
    ring& loop_;
    const std::size_t buffer_bytes_;
    const unsigned count_min_;
    const unsigned count_max_;
    const std::size_t resident_bytes_max_;
    const std::size_t large_buffer_bytes_;
    const unsigned large_count_max_;
    unsigned entry_count_ = 0;
    std::uint16_t group_ = 0;
    std::byte* memory_ = nullptr;
    io_uring_buf_ring* entries_ = nullptr;

    std::vector<slot> slots_;             // reserved for count_max_: grows without moving
    std::vector<std::uint16_t> retired_;  // as many: made once, and given back to the system

    struct resume_work : work {
        explicit resume_work(buffer_pool_state& self) noexcept;
        buffer_pool_state& self;
    };

    list_link waiters_;
    list_link holders_;
    resume_work resume_work_{*this};
    bool resume_scheduled_ = false;  // resume_work_ is in the run queue
    std::uint64_t starved_count_ = 0;
    std::uint64_t grown_in_iteration_ = 0;
    std::size_t ref_count_ = 1;
    unsigned request_count_ = 0;           // that name the group
    std::size_t resident_bytes_ = 0;       // the touched bytes of all slots
    spilled_chunk* large_idle_ = nullptr;  // used last first
    unsigned large_count_ = 0;             // made, and not freed
    unsigned large_idle_count_ = 0;
    unsigned large_idle_min_ = 0;  // the fewest since trim_large()
    unsigned large_return_count_ = 0;
    unsigned provided_count_ = 0;  // with the kernel, as far as its answers have been seen
    unsigned borrowed_count_ = 0;  // with the program
    unsigned idle_count_min_ = 0;  // the fewest that lay idle since update_surplus()
    unsigned surplus_count_ = 0;   // how many of the next returned buffers are retired
    unsigned return_count_ = 0;
    std::uint16_t tail_ = 0;
    bool closed_ = false;
};

}  // namespace kevring::detail
