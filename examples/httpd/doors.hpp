// doors.hpp: the addresses that the server listens at, and the sockets of its loops there.
#pragma once

#include "worker.hpp"

#include <kevring/net/endpoint.hpp>
#include <kevring/runtime/fd.hpp>

#include <string>
#include <vector>

namespace httpd {

/// The addresses of one kind, --listen or --metrics. Sockets are bound before they are given to the
/// loops, so that a port in use is said at once and with its name.
///
/// Thread     One at a time.
class doors {
public:
    struct door {
        unsigned number = 0;
        std::string name;  // as in the settings; empty for a socket that was inherited
        kevring::endpoint where;
    };

    /// What is to be opened and closed. Dropped before commit(), it leaves all as it was.
    class change {
    public:
        change() = default;
        change(change&&) noexcept = default;
        change& operator=(change&&) = delete;
        ~change();

        std::vector<std::vector<opened_door>> opened;  // by loop
        std::vector<unsigned> closed;
        const std::vector<door>& made() const noexcept { return made_; }

    private:
        friend class doors;
        std::vector<door> made_;
    };

    /// `option` is the one that names the addresses, for what is said of them.
    doors(std::string option, unsigned loop_count);
    doors(const doors&) = delete;
    doors& operator=(const doors&) = delete;
    ~doors();

    /// Opens what is listed and not open yet, and says what is open and not listed any more.
    /// Sockets that were bound by others are taken with it; all loops accept from each, and no
    /// later change closes it.
    ///
    /// Errors     Throws std::system_error that names the address.
    change prepare(const std::vector<std::string>& listed, std::vector<kevring::fd> inherited = {});
    /// What has been prepared goes to the loops.
    void commit(change& prepared);

private:
    void inherit(kevring::fd listening, change& into);
    void bind(const std::string& name, change& into);

    const std::string option_;
    const std::size_t loop_count_;
    unsigned next_number_ = 0;
    std::vector<door> open_;
};

}  // namespace httpd
