// version.hpp: the version of the library.
#pragma once

#include <kevring/runtime/detail/language.hpp>

namespace kevring {

/// The version of the library that the program uses, as "MAJOR.MINOR.PATCH".
///
/// Lifetime   The string is static.
/// Thread     Any.
const char* version() noexcept;

}  // namespace kevring
