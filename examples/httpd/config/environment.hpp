// environment.hpp: values of the environment that the library would ignore.
#pragma once

namespace httpd {

/// Prints a line for each unknown name in KEVRING_WITHOUT and KEVRING_SEND_PATH.
void check_environment();

}  // namespace httpd
