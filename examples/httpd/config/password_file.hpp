// password_file.hpp: users and hashes of a file that htpasswd(1) writes, and who was verified.
#pragma once

#include "option_text.hpp"

#include <kevring/runtime/thread_mutex.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace httpd {

/// Whether this program was built with libxcrypt.
bool can_verify_passwords() noexcept;

/// The file, as it was when it was read. Of verified credentials a keyed hash is kept, for a bounded
/// number of them: a password is in memory only while it is verified.
///
/// Thread     Any.
class password_file {
public:
    static constexpr std::size_t verified_count_max = 1024;

    /// Errors     Throws option_error of `rule`: the file cannot be read, a line is malformed, or a
    ///            hash is of an unsafe or unknown kind.
    password_file(const option_text& rule, const std::string& path);

    /// Whether these credentials have been verified recently. Does not take long.
    bool is_verified(std::string_view user, std::string_view password) const noexcept;
    /// Computes the hash of the password, which takes as long as the file's hashes demand: some 50
    /// ms. It takes as long for a user that does not exist.
    bool verify(const std::string& user, const std::string& password) noexcept;

private:
    using digest = std::array<std::uint64_t, 2>;

    void add_line(const option_text& rule, std::string_view line);
    digest digest_of(std::string_view user, std::string_view password) const noexcept;

    // Constant after construction.
    std::map<std::string, std::string, std::less<>> hashes_;  // by user
    digest key_{};
    mutable kevring::thread_mutex mutex_;
    std::array<digest, verified_count_max> verified_ KEVRING_GUARDED_BY(mutex_){};
};

}  // namespace httpd
