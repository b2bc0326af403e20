#include <kevring/runtime/version.hpp>

namespace kevring {

const char* version() noexcept { return KEVRING_VERSION; }

}  // namespace kevring
