// ring_service.hpp: objects of which each ring has at most one, such as its default buffer pool.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <memory>

namespace kevring {

/// Base class of an object that belongs to a ring and is shared by everything that runs on it.
/// ring::service<T>() creates the T of a ring at the first use, by T's constructor from `ring&`.
///
/// Lifetime   Destroyed by the ring's destructor, after the last completion and before the kernel's
///            ring is closed, in the reverse order of creation.
/// Thread     The loop's thread.
class ring_service {
public:
    ring_service() noexcept = default;
    ring_service(const ring_service&) = delete;
    ring_service& operator=(const ring_service&) = delete;
    virtual ~ring_service() = default;

private:
    friend class ring;

    // Constant after the ring has stored the service.
    const void* key_ = nullptr;  // identifies the type
    std::unique_ptr<ring_service> next_;
};

namespace detail {

/// Its address identifies the type among the services of a ring.
template <class Service>
inline constexpr char service_key = 0;

}  // namespace detail
}  // namespace kevring
