// compressor.hpp: compresses a file into memory, by zlib or zstd.
#pragma once

#include "examples/httpd/http/accept_encoding.hpp"

#include <kevring/runtime/fd.hpp>

#include <cstdint>
#include <functional>
#include <string_view>

namespace httpd {

/// The codings that this program was built with, as bits of accepted_codings.
unsigned compressor_codings() noexcept;

/// Goes into the entity tag: another version of the library may write other bytes.
std::string_view compressor_version(content_coding coding) noexcept;

/// Compresses the first `byte_count` bytes of `source` into a file in memory (memfd_create(2)).
///
/// Result     An invalid descriptor if the result would not be smaller by a twentieth, if the file
///            cannot be read or is shorter, if memory is short, or once `stopping` returns true.
/// Thread     Any; blocks while the file is read.
kevring::fd compress_file(kevring::fd_ref source, std::uint64_t byte_count, content_coding coding,
                          const std::function<bool()>& stopping);

}  // namespace httpd
