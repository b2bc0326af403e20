// language.hpp: stops the compiler at once where the language is older than C++20. Each header that
// includes no other header of kevring includes this one first.
#pragma once

#if !defined(__cpp_impl_coroutine) && (!defined(__cplusplus) || __cplusplus < 202002L)
#error "kevring needs C++20; compile with -std=c++20"
// Does not exist: ends the compilation, before hundreds of errors follow.
#include <kevring-needs-C++20>
#endif
