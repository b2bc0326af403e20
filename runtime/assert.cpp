#include <kevring/runtime/assert.hpp>

#include <cstdio>
#include <cstdlib>

namespace kevring::detail {

void assertion_failed(const char* condition, const char* file, int line,
                      const char* function) noexcept {
    std::fprintf(stderr, "kevring: assertion failed: %s\n  in %s() at %s:%d\n", condition, function,
                 file, line);
    std::abort();
}

}  // namespace kevring::detail
