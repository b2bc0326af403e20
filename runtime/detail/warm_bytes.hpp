// warm_bytes.hpp: a guess whether the bytes of a large send are in the caches of the processor.
#pragma once

#include <kevring/runtime/detail/language.hpp>

namespace kevring::detail {

/// True from a receive or a read of this thread until its next large send: that probably sends
/// what has just come. A send directly behind another one sends bytes that were made earlier.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local bool bytes_are_warm;

}  // namespace kevring::detail
