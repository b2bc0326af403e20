// fuzz.hpp: common parts of the fuzz targets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>

namespace fuzz {

/// Aborts the program if the check fails; libFuzzer reports an abort as a finding.
inline void check(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
    return {reinterpret_cast<const char*>(data), size};
}

/// A copy in an allocation of its exact size, so that a sanitizer reports a read past its end.
class exact_copy {
public:
    explicit exact_copy(std::string_view text)
        : bytes_(std::make_unique_for_overwrite<char[]>(text.size())), size_(text.size()) {
        text.copy(bytes_.get(), size_);
    }
    std::string_view text() const { return {bytes_.get(), size_}; }

private:
    std::unique_ptr<char[]> bytes_;
    std::size_t size_;
};

/// A number that depends only on the input.
inline std::size_t pick(std::string_view text, std::size_t below) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char byte : text) {
        hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
    }
    return below == 0 ? 0 : static_cast<std::size_t>((hash >> 20) % below);
}

}  // namespace fuzz
