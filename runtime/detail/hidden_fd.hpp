// hidden_fd.hpp: descriptors that the library opens for itself.
//
// The program does not know their numbers. So they are never 0, 1 or 2, which a daemon may have
// closed and still write to. And the child of a fork closes them: the duplicate of a registered
// socket would otherwise keep the connection open there.
#pragma once

#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/thread_mutex.hpp>

#include <cerrno>
#include <utility>

namespace kevring::detail {

/// The lowest number of a descriptor that the library opens for itself.
inline constexpr int hidden_number_min = 3;

/// Guards the numbers of all hidden descriptors. Never destroyed: static objects of the program own
/// hidden descriptors, too.
extern constinit thread_mutex hidden_fd_mutex;

/// Moves a descriptor that was just opened to a number that is no standard descriptor, where it is
/// one. It stays close-on-exec.
///
/// Result     The number; -1 with errno where none is free, and then the descriptor is closed. A
///            negative `number` is returned as it is, with errno unchanged.
int above_standard(int number) noexcept;

/// The owner of a hidden descriptor.
///
/// In the child of a fork an object that was made before owns nothing: number() is -1 there, so
/// that a system call through it fails with EBADF and changes no file of the parent.
///
/// Thread     As fd. Any thread may own one.
class hidden_fd {
public:
    hidden_fd() noexcept = default;
    hidden_fd(hidden_fd&& other) noexcept
        : number_(std::exchange(other.number_, -1)), generation_(other.generation_) {}
    hidden_fd& operator=(hidden_fd&& other) noexcept {
        if (this != &other) {
            reset();
            number_ = std::exchange(other.number_, -1);
            generation_ = other.generation_;
        }
        return *this;
    }
    ~hidden_fd() { reset(); }

    /// Owns the close-on-exec descriptor that `make` opens.
    ///
    /// Result     Invalid where make() returns a negative number or memory is exhausted; errno says
    ///            why.
    template <class Make>
    static hidden_fd open(Make&& make) noexcept {
        const thread_lock held(hidden_fd_mutex);  // a fork sees it opened and recorded, or neither
        return hidden_fd(record(std::forward<Make>(make)()));
    }
    /// Owns a duplicate of `file`.
    ///
    /// Errors     As of open(); EBADF, EMFILE.
    static hidden_fd duplicate(fd_ref file) noexcept;

    int number() const noexcept { return generation_ == fork_generation() ? number_ : -1; }
    bool valid() const noexcept { return number() >= 0; }
    explicit operator bool() const noexcept { return valid(); }
    operator fd_ref() const& noexcept { return fd_ref(number()); }
    operator fd_ref() && = delete;  // it would be closed before it is used

    /// Gives the number away, which from then on is no hidden one; the caller closes it.
    [[nodiscard]] int release() noexcept;
    /// Closes the descriptor. In the child of a fork that was done by the fork.
    void reset() noexcept;

private:
    explicit hidden_fd(int number) noexcept : number_(number), generation_(fork_generation()) {}
    // The number to own; -1 with errno.
    static int record(int number) noexcept KEVRING_REQUIRES(hidden_fd_mutex);

    int number_ = -1;
    unsigned generation_ = 0;
};

}  // namespace kevring::detail
