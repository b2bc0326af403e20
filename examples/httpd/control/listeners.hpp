// listeners.hpp: the addresses that the server listens at, and the sockets of its loops there.
#pragma once

#include "examples/httpd/serving/worker.hpp"
#include "inherited_sockets.hpp"
#include "upgrade.hpp"

#include <kevring/net/endpoint.hpp>
#include <kevring/runtime/fd.hpp>

#include <string>
#include <vector>

namespace httpd {

/// The addresses of one kind, --listen or --metrics. Sockets are bound before they are given to the
/// loops, so that a port in use is said at once and with its name.
///
/// Thread     One at a time.
class listeners {
public:
    struct listen_address {
        unsigned number = 0;
        std::string name;  // as in the settings; empty for a socket that was inherited
        kevring::endpoint address;
        std::vector<int> sockets;  // one of each; open as long as the loops listen here
        bool removes_path = false;
    };

    /// What is to be opened and closed. Dropped before commit(), it leaves all as it was.
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

    /// `option` is the one that names the addresses, for what is said of them.
    listeners(std::string option, unsigned loop_count);
    listeners(const listeners&) = delete;
    listeners& operator=(const listeners&) = delete;
    ~listeners();

    /// Opens what is listed and not open yet, and says what is open and not listed any more. Those
    /// of `inherited` that a predecessor listened at by a listed name are gone on with; those of
    /// systemd are taken, too, and no later change closes them. The rest stays in `inherited`.
    ///
    /// Errors     Throws std::system_error that names the address.
    change prepare(const std::vector<std::string>& listed,
                   std::vector<inherited_socket>& inherited);
    change prepare(const std::vector<std::string>& listed);
    /// What has been prepared goes to the loops.
    void commit(change& prepared);

    /// Adds what a successor needs to go on here.
    void append_inherited(std::vector<handed_socket>& target) const;
    /// Whether the paths of Unix sockets are this process's to remove. Those that it has bound are,
    /// until a successor serves; those that it has from a predecessor are once it serves itself.
    void set_path_ownership(bool owns) noexcept;

private:
    void adopt(const std::string& name, std::vector<kevring::fd> sockets, change& prepared);
    void bind(const std::string& name, change& prepared);

    const std::string option_;
    const std::size_t loop_count_;
    unsigned next_number_ = 0;
    std::vector<listen_address> open_;
};

}  // namespace httpd
