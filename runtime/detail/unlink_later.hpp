// unlink_later.hpp: the removal of a file that no coroutine waits for.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/ring.hpp>

#include <cstdint>
#include <string>
#include <utility>

namespace kevring::detail {

/// A request that removes `name` below `directory` and then deletes itself. The ring's destructor waits
/// for it.
class unlink_later final : public completion {
public:
    /// Before the request is queued.
    void set(fd directory, std::string name) noexcept {
        directory_ = std::move(directory);
        name_ = std::move(name);
    }
    void complete(std::int32_t res, std::uint32_t flags) noexcept override;
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd directory_;
    std::string name_;
};

}  // namespace kevring::detail
