#include <kevring/runtime/assert.hpp>

#include <cstdio>
#include <cstdlib>

namespace kevring::detail {

void assertion_failed(const assertion& failed, const call_site& caller) noexcept {
    std::fprintf(stderr, "kevring: %s\n", failed.text);
    if (caller.file != nullptr) std::fprintf(stderr, "  at %s:%u\n", caller.file, caller.line);
    std::fprintf(stderr, "  checked by %s() at %s:%d: %s\n", failed.function, failed.file,
                 failed.line, failed.condition);
    std::abort();
}

}  // namespace kevring::detail
