// fd_source.hpp: what the types that watch a descriptor have in common.
#pragma once

#include <kevring/kevent/detail/source.hpp>
#include <kevring/runtime/fd.hpp>

#include <cstdint>
#include <utility>

namespace kevring::detail {

/// Watches the file behind the descriptor id.raw[0].
///
/// The source holds a descriptor of its own from the first arm() until it is destroyed: the file
/// stays open although the program closes its number (K-102), and the number may come to mean
/// another file meanwhile.
class fd_source : public source, private fd_listener {
public:
    ~fd_source() override;

    int arm() override;
    readiness test() final;
    void disarm() noexcept override;
    bool arm_tests() const noexcept final { return true; }

protected:
    using source::source;

    /// Watches `held` in place of the descriptor of the request.
    void hold(fd held) noexcept {
        held_ = std::move(held);
        watch_.number = held_.number();
    }
    fd_ref held() const noexcept { return held_; }

    /// The bits of poll(2) that the present event mask asks for.
    virtual std::uint32_t wanted_bits() const noexcept = 0;
    /// What `poll_bits` mean for the present event mask; sets ret_data.
    virtual readiness judge(std::uint32_t poll_bits) noexcept = 0;

    /// What the descriptor of a request is: S_IFSOCK or the like, as stat(2) names it.
    ///
    /// Errors     bad_file_descriptor.
    static result<std::uint32_t> file_type(const registration& of) noexcept;

private:
    int number() const noexcept;
    void active(std::uint32_t poll_bits) noexcept final {
        if (of_.armed) host_.report(of_, judge(poll_bits));
    }

    fd held_;
    fd_watch watch_;
};

}  // namespace kevring::detail
