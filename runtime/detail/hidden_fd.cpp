// hidden_fd.cpp: see hidden_fd.hpp.
#include <kevring/runtime/detail/hidden_fd.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

namespace kevring::detail {
namespace {

// The numbers that are hidden at present, as bits: the child of a fork closes them without a look
// at the objects that own them.
class hidden_numbers {
public:
    std::mutex mutex;

    // False: out of memory.
    bool insert(int number) noexcept {
        const auto index = static_cast<std::size_t>(number) / word_bits;
        try {
            if (index >= words_.size()) words_.resize(index + index / 2 + 1);
        } catch (const std::bad_alloc&) {
            return false;
        }
        words_[index] |= bit(number);
        return true;
    }
    void erase(int number) noexcept {
        words_[static_cast<std::size_t>(number) / word_bits] &= ~bit(number);
    }
    void close_all() noexcept {
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
    std::vector<std::uint64_t> words_;
};

// Never destroyed: static objects of the program own hidden descriptors, too.
hidden_numbers& numbers() noexcept {
    alignas(hidden_numbers) static std::byte place[sizeof(hidden_numbers)];
    static auto& only = *new (place) hidden_numbers;
    return only;
}

[[gnu::constructor]] void register_fork_handler() noexcept {
    add_fork_hooks({[]() noexcept { numbers().mutex.lock(); },
                    []() noexcept { numbers().mutex.unlock(); },
                    [](bool prepared) noexcept {
                        if (!prepared) new (&numbers().mutex) std::mutex;
                        if (prepared) numbers().mutex.unlock();
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

std::mutex& hidden_fd::mutex() noexcept { return numbers().mutex; }

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
    const std::lock_guard held(mutex());
    numbers().erase(number);
    return number;
}

void hidden_fd::reset() noexcept {
    const int number = hidden_fd::number();
    number_ = -1;
    if (number < 0) return;
    {
        const std::lock_guard held(mutex());
        numbers().erase(number);  // first: a closed number may belong to another file at once
    }
    close_quietly(number);  // without the lock: closing a socket that lingers takes its time
}

}  // namespace kevring::detail
