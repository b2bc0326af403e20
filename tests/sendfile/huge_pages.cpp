// huge_pages.cpp: runs the tests of this program as under another setting of
// /sys/kernel/mm/transparent_hugepage/enabled, which KEVRING_TEST_HUGE_PAGES names.
//
//     never     The kernel gives this process no huge page (prctl(2), PR_SET_THP_DISABLE).
//     always    mmap(2) advises huge pages for each large anonymous mapping. The default of Debian.
//
// Without the variable the setting of the system decides.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/fixed_buffer_pool.hpp>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

using kevring::fixed_buffer;
using kevring::fixed_buffer_pool;
using kevring::ring;
using kevring::task;

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define KEVRING_TEST_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KEVRING_TEST_SANITIZED
#endif

namespace {

std::string_view wanted_setting() noexcept {
    const char* const value = std::getenv("KEVRING_TEST_HUGE_PAGES");
    return value != nullptr ? value : "";
}

[[maybe_unused]] const bool disabled = [] {
    if (wanted_setting() == "never") ::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    return true;
}();

// The value of a field of the mapping that contains `address`, as /proc/self/smaps shows it.
std::string mapping_field(const void* address, const std::string& name) {
    const auto wanted = reinterpret_cast<std::uintptr_t>(address);
    std::ifstream smaps("/proc/self/smaps");
    bool inside = false;
    for (std::string line; std::getline(smaps, line);) {
        std::uintptr_t begin = 0;
        std::uintptr_t end = 0;
        char dash = 0;
        std::istringstream range(line);
        if (range >> std::hex >> begin >> dash >> end && dash == '-') {
            inside = begin <= wanted && wanted < end;
        } else if (inside && line.starts_with(name + ":")) {
            return line.substr(name.size() + 1);
        }
    }
    return {};
}

}  // namespace

#if !defined(KEVRING_TEST_SANITIZED) && defined(__x86_64__)

// Replaces the mmap() of libc for this program and for the libraries that it loads.
extern "C" void* mmap(void* address, std::size_t length, int protection, int flags, int file,
                      off_t offset) noexcept {
    void* const memory = reinterpret_cast<void*>(
        ::syscall(SYS_mmap, address, length, protection, flags, file, offset));
    if (memory != MAP_FAILED && (flags & MAP_ANONYMOUS) != 0 && length >= (std::size_t{2} << 20) &&
        wanted_setting() == "always")
        ::madvise(memory, length, MADV_HUGEPAGE);
    return memory;
}

#endif

TEST_CASE("registered buffers are never in huge pages", "[sendfile][zero_copy][locked_memory]") {
    if (::access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK) != 0) {
        WARN("skipped: this kernel has no transparent huge pages");
        return;
    }
    ring loop;
    auto body = [&]() -> task<void> {
        fixed_buffer_pool pool(loop);
        std::vector<fixed_buffer> held;
        while (fixed_buffer buffer = pool.try_acquire()) held.push_back(std::move(buffer));
        if (held.empty()) {
            WARN("skipped: the kernel registers no buffer here: " << pool.last_error().message());
            co_return;
        }
        // "nh": no huge pages (proc_pid_smaps(5)).
        const void* const memory = held.front().bytes().data();
        CHECK_THAT(mapping_field(memory, "VmFlags"), ContainsSubstring(" nh"));
        CHECK_THAT(mapping_field(memory, "AnonHugePages"), ContainsSubstring(" 0 kB"));
    };
    run_on(loop, body);
}
