// errno_guard.hpp: the calls of the C interface leave errno alone.
#pragma once

#include <cerrno>

namespace kevring::detail {

/// errno is afterwards what it was before.
class errno_guard {
public:
    errno_guard() noexcept : before_(errno) {}
    errno_guard(const errno_guard&) = delete;
    errno_guard& operator=(const errno_guard&) = delete;
    ~errno_guard() { errno = before_; }

private:
    const int before_;
};

}  // namespace kevring::detail
