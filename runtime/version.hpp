// version.hpp: the version of the library.
#pragma once

namespace kevring {

/// The version of the library that the program uses, as "MAJOR.MINOR.PATCH".
///
/// Lifetime   The string is static.
/// Thread     Any.
const char* version() noexcept;

}  // namespace kevring
