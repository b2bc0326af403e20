// naio.hpp: whole receives and sends, begun by aio_recv() and aio_send().
#pragma once

#include <kevring/kevent/detail/source.hpp>
#include <kevring/runtime/fd.hpp>

#include <cstddef>

namespace kevring::detail {

/// The buffer that a receive fills or a send empties; a send does not write to it.
struct naio_buffer {
    char* begin = nullptr;
    std::size_t size = 0;
};

/// Makes the source of a request whose direction is its record's event. It keeps a descriptor of
/// its own, so that the caller may close `socket`.
///
/// Errors     not_a_socket, bad_file_descriptor; ESOCKTNOSUPPORT where bytes are no stream;
///            invalid_argument for flags that change what is moved.
result<std::unique_ptr<source>> make_naio_source(source_host& host, registration& target,
                                                 fd_ref socket, naio_buffer buffer, int flags);

}  // namespace kevring::detail
