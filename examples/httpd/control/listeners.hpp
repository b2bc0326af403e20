// listeners.hpp: the addresses that the server listens at, and the sockets of its loops there.
#pragma once

#include "examples/httpd/config/option_text.hpp"
#include "examples/httpd/serving/worker.hpp"
#include "inherited_sockets.hpp"
#include "upgrade.hpp"

#include <kevring/net/endpoint.hpp>
#include <kevring/runtime/fd.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace httpd {

/// Permissions of the paths of Unix sockets.
struct unix_socket_access {
    std::optional<unsigned> mode;  // none: by the umask
    option_text owner;             // "USER" or "USER:GROUP"; empty: the process's
};

/// The addresses of one option, --listen or --metrics. Sockets are bound before the loops get them,
/// so that an error ends the start or the reload, and names its address.
///
/// Thread     One at a time.
class listeners {
public:
    struct listen_address {
        unsigned number = 0;
        std::string name;  // as in the settings; empty for a socket of systemd
        kevring::endpoint address;
        std::vector<int> sockets;  // one of each loop; open as long as the loops listen here
        bool removes_path = false;
    };

    /// Sockets to be opened and closed. Destroyed before commit(), it leaves everything as it was.
    class change {
    public:
        change() = default;
        change(change&&) noexcept = default;
        change& operator=(change&&) = delete;
        ~change();

        std::vector<std::vector<opened_listener>> opened;  // by loop
        std::vector<unsigned> closed;
        const std::vector<listen_address>& made() const noexcept { return made_; }

    private:
        friend class listeners;
        std::vector<listen_address> made_;
    };

    /// `option` names the addresses to the process that takes over.
    /// The loops know each address by its number, from `first_number` on.
    listeners(std::string option, unsigned loop_count, unsigned first_number = 0);
    listeners(const listeners&) = delete;
    listeners& operator=(const listeners&) = delete;
    ~listeners();

    /// Opens the listed addresses that are not open yet, and closes those that are not listed any
    /// more. Of `inherited`, sockets of an old process with a listed name are adopted; those of
    /// systemd are too, and no later change closes them. The rest stays in `inherited`.
    ///
    /// Errors     Throws option_error that names the address.
    change prepare(const std::vector<option_text>& listed, std::vector<inherited_socket>& inherited,
                   const unix_socket_access& access);
    /// The loops get what was prepared.
    void commit(change& prepared);

    /// Adds the sockets for a process that takes over.
    void append_inherited(std::vector<handed_socket>& target) const;
    /// Whether this process removes the paths of Unix sockets at its end. It does for those that it
    /// has bound, until another process takes over, and for adopted ones once it serves.
    void set_path_ownership(bool owns) noexcept;

private:
    void adopt(const std::string& name, std::vector<kevring::fd> sockets, change& prepared);
    void bind(const option_text& name, const unix_socket_access& access, change& prepared);

    const std::string option_;
    const std::size_t loop_count_;
    unsigned next_number_;
    std::vector<listen_address> open_;
};

}  // namespace httpd
