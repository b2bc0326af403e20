#include "password_file.hpp"

#include "config_file.hpp"
#include "option_values.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <system_error>

#include <sys/random.h>

#ifdef HTTPD_CRYPT
#include <crypt.h>
#endif

namespace httpd {
namespace {

// A bcrypt hash of a higher cost takes longer than 5 s.
constexpr std::string_view bcrypt_cost_max = "16";

// SipHash-2-4 with 128 bits, by Aumasson and Bernstein: a keyed hash. Without the key, which is in
// this process only, it tells nothing about a password.
class sip_hash {
public:
    explicit sip_hash(const std::array<std::uint64_t, 2>& key) noexcept
        : state_{key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d ^ 0xee,
                 key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573} {}

    void add(std::string_view bytes) noexcept {
        for (const char byte : bytes) add(static_cast<unsigned char>(byte));
    }
    std::array<std::uint64_t, 2> finish() noexcept {
        word_ |= (byte_count_ & 0xff) << 56;
        absorb();
        state_[2] ^= 0xee;
        mix(4);
        std::array<std::uint64_t, 2> made{folded(), 0};
        state_[1] ^= 0xdd;
        mix(4);
        made[1] = folded();
        return made;
    }

private:
    void add(unsigned char byte) noexcept {
        word_ |= std::uint64_t{byte} << 8 * (byte_count_++ % 8);
        if (byte_count_ % 8 == 0) absorb();
    }
    void absorb() noexcept {
        state_[3] ^= word_;
        mix(2);
        state_[0] ^= word_;
        word_ = 0;
    }
    void mix(int rounds) noexcept {
        auto& [a, b, c, d] = state_;
        for (; rounds > 0; --rounds) {
            a += b;
            b = std::rotl(b, 13) ^ a;
            a = std::rotl(a, 32);
            c += d;
            d = std::rotl(d, 16) ^ c;
            a += d;
            d = std::rotl(d, 21) ^ a;
            c += b;
            b = std::rotl(b, 17) ^ c;
            c = std::rotl(c, 32);
        }
    }
    std::uint64_t folded() const noexcept { return state_[0] ^ state_[1] ^ state_[2] ^ state_[3]; }

    std::array<std::uint64_t, 4> state_;
    std::uint64_t word_ = 0;
    std::uint64_t byte_count_ = 0;
};

// Looks at all bytes, so that the time does not tell how many are equal.
[[maybe_unused]] bool equal_in_constant_time(std::string_view one,
                                             std::string_view other) noexcept {
    if (one.size() != other.size()) return false;
    unsigned difference = 0;
    for (std::size_t i = 0; i < one.size(); ++i)
        difference |= static_cast<unsigned char>(one[i] ^ other[i]);
    return difference == 0;
}

std::string read_users(const option_text& rule, const std::string& path) try {
    return read_text_file(path);
} catch (const value_error& failure) {
    rule.fail(path + ": " + failure.what());
}

}  // namespace

bool can_verify_passwords() noexcept {
#ifdef HTTPD_CRYPT
    return true;
#else
    return false;
#endif
}

password_file::password_file(const option_text& rule, const std::string& path) {
    if (!can_verify_passwords())
        rule.fail("this httpd was built without libxcrypt and cannot verify passwords");
    const std::string text = read_users(rule, path);
    std::size_t line_number = 0;
    for (std::string_view rest = text; !rest.empty();) {
        const std::size_t end = std::min(rest.find('\n'), rest.size());
        std::string_view line = rest.substr(0, end);
        rest.remove_prefix(std::min(end + 1, rest.size()));
        ++line_number;
        while (line.ends_with('\r') || line.ends_with(' ')) line.remove_suffix(1);
        if (line.empty() || line.starts_with('#')) continue;
        option_text place = rule;
        place.text += ": " + path + ':' + std::to_string(line_number);
        add_line(place, line);
    }
    if (hashes_.empty()) rule.fail(path + " has no user");
    if (::getrandom(key_.data(), sizeof key_, 0) != static_cast<ssize_t>(sizeof key_))
        throw std::system_error(errno, std::system_category(), "getrandom");
}

void password_file::add_line(const option_text& rule, std::string_view line) {
    const std::size_t colon = line.find(':');
    if (colon == line.npos || colon == 0) rule.fail("a line is USER:HASH, as htpasswd writes it");
    const std::string user(line.substr(0, colon));
    const std::string_view rest = line.substr(colon + 1);
    const std::string hash(rest.substr(0, rest.find(':')));
    constexpr std::array kinds{"$2y$", "$2b$", "$2a$", "$5$", "$6$", "$y$", "$gy$", "$7$"};
    const bool is_known =
        std::ranges::any_of(kinds, [&](const char* kind) { return hash.starts_with(kind); });
    if (!is_known)
        rule.fail("the hash of " + user + " is of an unsafe or unknown kind; use htpasswd -B");
    if (hash.starts_with("$2") && hash.substr(4, 2) > bcrypt_cost_max)
        rule.fail("the hash of " + user + " has a cost above " + std::string(bcrypt_cost_max));
    constexpr std::size_t bcrypt_bytes = 60;
    constexpr std::size_t other_bytes_min = 40;
    if (hash.starts_with("$2") ? hash.size() != bcrypt_bytes : hash.size() < other_bytes_min)
        rule.fail("the hash of " + user + " is malformed");
#ifdef HTTPD_CRYPT
    if (::crypt_checksalt(hash.c_str()) == CRYPT_SALT_INVALID ||
        ::crypt_checksalt(hash.c_str()) == CRYPT_SALT_METHOD_DISABLED)
        rule.fail("the hash of " + user + " is malformed");
#endif
    if (!hashes_.try_emplace(user, hash).second) rule.fail(user + " is listed twice");
}

password_file::digest password_file::digest_of(std::string_view user,
                                               std::string_view password) const noexcept {
    sip_hash hash(key_);
    hash.add(user);
    hash.add(":");  // no user has one
    hash.add(password);
    digest made = hash.finish();
    made[0] |= 1;  // never that of an empty place
    return made;
}

bool password_file::is_verified(std::string_view user, std::string_view password) const noexcept {
    const digest wanted = digest_of(user, password);
    const kevring::thread_lock lock(mutex_);
    const digest& found = verified_[wanted[1] % verified_count_max];
    return ((found[0] ^ wanted[0]) | (found[1] ^ wanted[1])) == 0;
}

bool password_file::verify(const std::string& user, const std::string& password) noexcept {
    if (is_verified(user, password)) return true;  // by a request that was queued before
#ifdef HTTPD_CRYPT
    const auto found = hashes_.find(user);
    const std::string& hash = found == hashes_.end() ? hashes_.begin()->second : found->second;
    const std::unique_ptr<crypt_data> scratch(new (std::nothrow) crypt_data());
    if (!scratch) return false;
    const char* const made =
        ::crypt_rn(password.c_str(), hash.c_str(), scratch.get(), sizeof *scratch);
    const bool equal = made != nullptr && equal_in_constant_time(made, hash);
    ::explicit_bzero(scratch.get(), sizeof *scratch);
    if (!equal || found == hashes_.end()) return false;
    const digest verified = digest_of(user, password);
    const kevring::thread_lock lock(mutex_);
    verified_[verified[1] % verified_count_max] = verified;
    return true;
#else
    return false;
#endif
}

}  // namespace httpd
