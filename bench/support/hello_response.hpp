// bench/support/hello_response.hpp: the fixed response of the hello servers, 150 bytes in all.
#pragma once

#include <string_view>

namespace kevring::bench {

inline constexpr std::string_view hello_response =
    "HTTP/1.1 200 OK\r\n"
    "Content-Type: text/plain\r\n"
    "Content-Length: 85\r\n"
    "\r\n"
    "Hello. This response is always the same, so that only the way it took is measured...\n";
static_assert(hello_response.size() == 150);

// Finds the ends of request heads in a stream that comes in pieces of any size.
class head_counter {
public:
    // The number of heads that end in `bytes`.
    unsigned count(std::string_view bytes) noexcept {
        unsigned found = 0;
        // A head that ends in an earlier piece's tail: byte by byte until that is settled.
        while (matched_ != 0 && !bytes.empty()) {
            found += step(bytes.front());
            bytes.remove_prefix(1);
        }
        constexpr std::string_view head_end = "\r\n\r\n";
        for (auto end = bytes.find(head_end); end != bytes.npos; end = bytes.find(head_end)) {
            ++found;
            bytes.remove_prefix(end + head_end.size());
        }
        if (bytes.size() > head_end.size()) bytes.remove_prefix(bytes.size() - head_end.size());
        for (const char c : bytes) found += step(c);
        return found;
    }

private:
    unsigned step(char c) noexcept {
        // matched_ counts how much of CR LF CR LF was seen: even wants CR, odd wants LF.
        if (c != (matched_ % 2 == 0 ? '\r' : '\n')) {
            matched_ = c == '\r' ? 1 : 0;
            return 0;
        }
        if (++matched_ < 4) return 0;
        matched_ = 0;
        return 1;
    }

    unsigned matched_ = 0;
};

}  // namespace kevring::bench
