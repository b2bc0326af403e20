// hidden_fd.cpp: see hidden_fd.hpp.
#include <kevring/runtime/detail/hidden_fd.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

namespace kevring::detail {

constinit thread_mutex hidden_fd_mutex;
static_assert(std::is_trivially_destructible_v<thread_mutex>);

namespace {

// The numbers that are hidden at present, as bits: the child of a fork closes them without the
// objects that own them.
class hidden_numbers {
public:
    // False: out of memory.
    bool insert(int number) noexcept KEVRING_REQUIRES(hidden_fd_mutex) {
        const auto index = static_cast<std::size_t>(number) / word_bits;
        try {
            if (index >= words_.size()) words_.resize(index + index / 2 + 1);
        } catch (const std::bad_alloc&) {
            return false;
        }
        words_[index] |= bit(number);
        return true;
    }
    void erase(int number) noexcept KEVRING_REQUIRES(hidden_fd_mutex) {
        words_[static_cast<std::size_t>(number) / word_bits] &= ~bit(number);
    }
    void close_all() noexcept KEVRING_REQUIRES(hidden_fd_mutex) {
        for (std::size_t index = 0; index < words_.size(); ++index) {
            for (std::uint64_t word = std::exchange(words_[index], 0); word != 0; word &= word - 1)
                ::close(static_cast<int>(index * word_bits) + __builtin_ctzll(word));
        }
    }

private:
    static constexpr std::size_t word_bits = 64;
    static std::uint64_t bit(int number) noexcept {
        return std::uint64_t{1} << (static_cast<unsigned>(number) % word_bits);
    }
    std::vector<std::uint64_t> words_ KEVRING_GUARDED_BY(hidden_fd_mutex);
};

// Never destroyed: static objects of the program own hidden descriptors, too.
hidden_numbers& numbers() noexcept {
    alignas(hidden_numbers) static std::byte place[sizeof(hidden_numbers)];
    static auto& only = *new (place) hidden_numbers;
    return only;
}

[[gnu::constructor]] void register_fork_handler() noexcept {
    // Each locks or unlocks for the other, which clang does not follow.
    add_fork_hooks({[]() KEVRING_UNCHECKED_LOCKS noexcept { hidden_fd_mutex.lock(); },
                    []() KEVRING_UNCHECKED_LOCKS noexcept { hidden_fd_mutex.unlock(); },
                    [](bool prepared) KEVRING_UNCHECKED_LOCKS noexcept {
                        if (!prepared) new (&hidden_fd_mutex) thread_mutex;
                        if (prepared) hidden_fd_mutex.unlock();
                        const int caller_errno = errno;
                        numbers().close_all();
                        errno = caller_errno;
                    }});
}

void close_quietly(int number) noexcept {
    const int caller_errno = errno;
    ::close(number);
    errno = caller_errno;
}

}  // namespace

int above_standard(int number) noexcept {
    if (number < 0 || number >= hidden_number_min) return number;
    const int moved = ::fcntl(number, F_DUPFD_CLOEXEC, hidden_number_min);
    close_quietly(number);
    return moved;
}

int hidden_fd::record(int number) noexcept {
    number = above_standard(number);
    if (number < 0 || numbers().insert(number)) return number;
    ::close(number);
    errno = ENOMEM;
    return -1;
}

hidden_fd hidden_fd::duplicate(fd_ref file) noexcept {
    return open(
        [&]() noexcept { return ::fcntl(file.number(), F_DUPFD_CLOEXEC, hidden_number_min); });
}

int hidden_fd::release() noexcept {
    const int number = hidden_fd::number();
    number_ = -1;
    if (number < 0) return -1;
    const thread_lock held(hidden_fd_mutex);
    numbers().erase(number);
    return number;
}

void hidden_fd::reset() noexcept {
    const int number = hidden_fd::number();
    number_ = -1;
    if (number < 0) return;
    {
        const thread_lock held(hidden_fd_mutex);
        numbers().erase(number);  // first: a closed number may belong to another file at once
    }
    close_quietly(number);  // without the lock: closing a socket that lingers takes its time
}

}  // namespace kevring::detail
