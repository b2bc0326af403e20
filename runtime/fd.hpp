// fd.hpp: fd owns a descriptor, fd_ref borrows one.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <compare>
#include <utility>

namespace kevring {

/// A descriptor that another object owns.
///
/// Lifetime   The number refers to the same file only while its owner keeps it open: the kernel
///            reuses a closed number for the next open().
class fd_ref {
public:
    constexpr fd_ref() noexcept = default;
    constexpr explicit fd_ref(int number) noexcept : number_(number) {}

    constexpr int number() const noexcept { return number_; }
    constexpr bool valid() const noexcept { return number_ >= 0; }
    constexpr explicit operator bool() const noexcept { return valid(); }
    friend constexpr auto operator<=>(fd_ref, fd_ref) noexcept = default;

private:
    int number_ = -1;
};

/// Owns a descriptor; the destructor closes it with close(2).
///
/// Closing does not cancel a request in flight on the descriptor, because the request references
/// the file. Stop the request first. A request that the calling thread has queued and not yet
/// submitted is submitted before the descriptor is closed or given away, so that it cannot reach the
/// next file with the same number.
class fd {
public:
    fd() noexcept = default;
    explicit fd(int number) noexcept : number_(number) {}
    fd(fd&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    fd& operator=(fd&& other) noexcept {
        if (this != &other) reset(std::exchange(other.number_, -1));
        return *this;
    }
    ~fd() { reset(); }

    int number() const noexcept { return number_; }
    bool valid() const noexcept { return number_ >= 0; }
    explicit operator bool() const noexcept { return valid(); }
    operator fd_ref() const& noexcept { return fd_ref(number_); }
    operator fd_ref() && = delete;  // the descriptor would be closed before its use

    /// Transfers the ownership of the number to the caller.
    [[nodiscard]] int release() noexcept;
    /// Closes the descriptor and takes ownership of `number`. Keeps errno.
    void reset(int number = -1) noexcept;

private:
    friend class close_operation;  // gives the number to an entry behind all that name it

    int number_ = -1;
};

/// Opens /dev/null at each of the numbers 0, 1 and 2 that is closed. Otherwise a connection or a
/// file that the program opens later takes the number, and text for standard error reaches it. A
/// daemon calls this first of all. The library's own descriptors are 3 or higher in any case.
///
/// Result     False where a number stays closed; errno says why.
/// Thread     Before the program starts threads.
bool reserve_standard_descriptors() noexcept;

}  // namespace kevring
