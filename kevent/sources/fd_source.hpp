// fd_source.hpp: the common part of the types that watch a descriptor.
#pragma once

#include <kevring/kevent/detail/shared_file.hpp>
#include <kevring/kevent/detail/source.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/fd.hpp>

#include <cstdint>
#include <utility>

#include <sys/stat.h>

namespace kevring::detail {

/// Watches the file behind the descriptor id.raw[0].
///
/// The source holds a descriptor of its own from the first arm() until it is destroyed: the file
/// stays open although the program closes its number (K-102), and the number may refer to another
/// file later.
class fd_source : public source, private fd_handler {
public:
    fd_source(source_host& host, registration& target) noexcept
        : source(host, target), sharing_(host) {}
    ~fd_source() override;

    int arm() override;
    void prepare_arm() noexcept override;
    readiness test() override;
    pollfd poll_question() const noexcept override;
    readiness test_by_answer(std::uint32_t poll_bits) override { return evaluate(poll_bits); }
    void disarm() noexcept override;
    bool begin_removal() noexcept override { return sharing_.suspend_debt(); }
    void on_removed() noexcept override;
    bool arm_reports_readiness() const noexcept override { return true; }
    bool holds_descriptor() const noexcept override { return watched_fd_.valid(); }

protected:
    /// Watches `held` in place of the descriptor of the request.
    void set_watched(hidden_fd held) noexcept {
        watched_fd_ = std::move(held);
        watch_.number = watched_fd_.number();
    }
    fd_ref held() const noexcept { return watched_fd_; }
    /// The watched descriptor: its own, or before the first arm() that of the request.
    int number() const noexcept;

    /// The bits of poll(2) that the present event mask asks for.
    virtual std::uint32_t wanted_bits() const noexcept = 0;
    /// Evaluates `poll_bits` for the present event mask; sets ret_data.
    virtual readiness evaluate(std::uint32_t poll_bits) noexcept = 0;

    /// The status of the descriptor of a request. Errors: bad_file_descriptor.
    static result<struct stat> status_of(const registration& target) noexcept;

    /// From now on one activity of the file is for one registration of it (K-097).
    void share(const file_identity& file, shared_file_entry::ready_test is_ready,
               std::uint32_t possible_bits) {
        sharing_.join(file, is_ready, possible_bits);
    }
    /// The event of this registration is about to be delivered.
    void set_delivered() noexcept { sharing_.set_delivered(); }

private:
    std::uint32_t bits_now() const noexcept;
    void on_ready(std::uint32_t poll_bits) noexcept final;

    hidden_fd watched_fd_;
    fd_watch watch_;
    shared_file_entry sharing_;
    bool was_ready_when_armed_ = false;  // then the first report is the answer to arm()
};

}  // namespace kevring::detail
