// service_manager.hpp: messages to the service manager.
#pragma once

#include <string>

namespace httpd {

/// Sends the state of the process, as "READY=1", to the service manager, if there is one
/// (sd_notify(3)).
void notify_service_manager(const std::string& state) noexcept;

/// "RELOADING=1", with the time that systemd 253 and newer waits for (Type=notify-reload).
void notify_reloading() noexcept;

}  // namespace httpd
