// accept_encoding.hpp: selection of a file's precompressed sibling (RFC 9110 12.5.3).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace httpd {

/// In our order of preference where the client has none.
enum class content_coding : std::uint8_t { zstd, br, gzip, identity };
inline constexpr std::size_t content_coding_count = 4;

/// As in Content-Encoding; empty for identity.
std::string_view name_of(content_coding coding) noexcept;
/// Behind the name of the file: ".zst"; empty for identity.
std::string_view suffix_of(content_coding coding) noexcept;

/// The codings that a client takes, the best first. Identity is always among them, last where it
/// was excluded: an uncompressed file is better than a 406 that no client expects.
class accepted_codings {
public:
    /// Without the field: identity only, for the client may know no other.
    accepted_codings() noexcept = default;
    /// `value` is that of the field, its lines joined. A member with a malformed weight is
    /// skipped.
    explicit accepted_codings(std::string_view value) noexcept;

    std::span<const content_coding> in_order() const noexcept { return {order_.data(), count_}; }

    /// The best of those that `available` holds, a bit for each: 1 << content_coding. Identity is
    /// taken for available.
    content_coding choose(unsigned available) const noexcept;

    static constexpr unsigned bit(content_coding coding) noexcept {
        return 1U << static_cast<unsigned>(coding);
    }

private:
    std::array<content_coding, content_coding_count> order_{content_coding::identity};
    std::size_t count_ = 1;
};

}  // namespace httpd
