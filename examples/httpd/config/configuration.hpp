// configuration.hpp: what the server does: the settings, and all that is opened and read for them.
#pragma once

#include "custom_responses.hpp"
#include "examples/httpd/content/document_root.hpp"
#include "examples/httpd/observe/log_target.hpp"
#include "settings.hpp"

#include <memory>
#include <utility>

namespace httpd {

/// One reading of the settings, made whole or not at all. A reload makes another, and each loop
/// goes over to it when it likes; a request is answered by the one that it began with.
///
/// Lifetime   Files that `files` has found refer to it; who holds such a file holds this too.
/// Thread     Any: it is constant.
struct configuration {
    /// Errors     Throws std::system_error or std::runtime_error that names the option.
    explicit configuration(settings chosen)
        : options(std::move(chosen)),
          files(options.root, options.precompressed, options.directory_listing),
          answers(options),
          log(open_log(options.access_log, options.log_format)) {}

    const settings options;
    const document_root files;
    const custom_responses answers;
    const std::shared_ptr<const log_target> log;  // null: none
};

}  // namespace httpd
