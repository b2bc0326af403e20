// byte_views.hpp: bytes in the types of a program or of another library: containers of characters, buffers
// of Asio, and lists of them.
//
// A call that takes bytes takes them as std::span<const std::byte>, std::string_view, and as these concepts:
//
//     std::vector<unsigned char> packed = ...;
//     co_await client.send(packed);
//     co_await client.send(asio::buffer(packed, 16));
//     const std::array<asio::const_buffer, 2> parts{asio::buffer(head), asio::buffer(body)};
//     co_await client.send(parts);
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <concepts>
#include <cstddef>
#include <iterator>
#include <ranges>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include <sys/uio.h>

namespace kevring {
namespace detail {

template <class T>
concept plain_bytes = std::convertible_to<const T&, std::string_view> ||
                      std::convertible_to<const T&, std::span<const std::byte>>;

template <class T>
concept byte_sized = std::same_as<T, char> || std::same_as<T, signed char> ||
                     std::same_as<T, unsigned char> || std::same_as<T, std::byte>;

template <class T>
concept byte_container =
    std::ranges::contiguous_range<const T&> && std::ranges::sized_range<const T&> &&
    byte_sized<std::remove_cv_t<std::ranges::range_value_t<const T&>>>;

// A buffer over untyped memory, as of Asio.
template <class T>
concept untyped_buffer = requires(const T& buffer) {
    { buffer.size() } -> std::convertible_to<std::size_t>;
    requires std::is_void_v<std::remove_pointer_t<decltype(buffer.data())>>;
};

// The bytes outlive an element that is only a reference to them. One that owns them would be destroyed
// before they are sent.
template <class Reference>
concept lasting_bytes =
    std::is_lvalue_reference_v<Reference> || std::is_pointer_v<Reference> ||
    std::ranges::borrowed_range<Reference> || untyped_buffer<std::remove_cvref_t<Reference>>;

}  // namespace detail

/// Contiguous bytes of another type than std::span<const std::byte> and std::string_view: a container of
/// characters, unsigned characters or std::byte, or a buffer with data() and size() over untyped memory, as
/// asio::const_buffer and asio::mutable_buffer.
template <class T>
concept byte_view =
    !detail::plain_bytes<T> && (detail::byte_container<T> || detail::untyped_buffer<T>);

/// A range of which each element is bytes of any of these types, such as std::array<asio::const_buffer, 2>,
/// a buffer sequence of Asio, or std::vector<std::string>.
template <class T>
concept byte_view_list =
    !detail::plain_bytes<T> && !byte_view<T> && std::ranges::input_range<const T&> &&
    detail::lasting_bytes<std::ranges::range_reference_t<const T&>> &&
    (detail::plain_bytes<std::remove_cvref_t<std::ranges::range_reference_t<const T&>>> ||
     byte_view<std::remove_cvref_t<std::ranges::range_reference_t<const T&>>>);

/// The bytes that `bytes` refers to.
template <class T>
    requires detail::plain_bytes<T> || byte_view<T>
std::span<const std::byte> bytes_of(const T& bytes) noexcept {
    if constexpr (std::convertible_to<const T&, std::span<const std::byte>>) {
        return bytes;
    } else if constexpr (detail::plain_bytes<T>) {
        return std::as_bytes(std::span(std::string_view(bytes)));
    } else if constexpr (detail::byte_container<T>) {
        return std::as_bytes(std::span(std::ranges::data(bytes), std::ranges::size(bytes)));
    } else {
        return {static_cast<const std::byte*>(bytes.data()), bytes.size()};
    }
}

namespace detail {

/// The parts of a list that are not empty. The elements of a list refer to bytes that lie elsewhere, or in
/// the list.
template <byte_view_list List>
std::vector<iovec> parts_of(const List& list) {
    std::vector<iovec> parts;
    for (const auto& each : list) {
        const std::span<const std::byte> bytes = bytes_of(each);
        if (!bytes.empty()) parts.push_back({const_cast<std::byte*>(bytes.data()), bytes.size()});
    }
    return parts;
}

inline std::span<const std::byte> bytes_of_part(const iovec& part) noexcept {
    return {static_cast<const std::byte*>(part.iov_base), part.iov_len};
}

}  // namespace detail
}  // namespace kevring
