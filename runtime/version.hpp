// version.hpp: which kevring this is.
#pragma once

namespace kevring {

/// The version of the library that the program runs with, as "MAJOR.MINOR.PATCH".
///
/// Lifetime   The string is static.
/// Thread     Any.
const char* version() noexcept;

}  // namespace kevring
