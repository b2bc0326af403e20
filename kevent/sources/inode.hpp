// inode.hpp: names that were made in a directory or removed from it.
#pragma once

#include <kevring/kevent/detail/source.hpp>

namespace kevring::detail {

/// Takes the oldest changes that `from`, a source of type INODE, has kept.
///
/// Result     How many, or -EINVAL where it keeps none.
int take_inode_changes(source& from, unsigned max_count, kevent_change* target) noexcept;

}  // namespace kevring::detail
