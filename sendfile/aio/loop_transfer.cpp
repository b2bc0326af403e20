// loop_transfer.cpp: transfers from a file to a socket on the loop of the queue that reports their end.
//
// kevent/event_queue.hpp declares the call. aio_sendfile() needs a thread of its own instead, because
// the threads of the C interface drive no loop.
#include <kevring/kevent/detail/aio_completion.hpp>
#include <kevring/kevent/detail/queue_core.hpp>
#include <kevring/kevent/detail/shared_file.hpp>
#include <kevring/kevent/event_queue.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/ring_service.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/sendfile/aio/aio_loop.hpp>

#include <cerrno>
#include <memory>
#include <utility>

#include <sys/stat.h>

namespace kevring {
namespace {

class loop_transfers final : public ring_service {
public:
    explicit loop_transfers(ring&) noexcept {}
    detail::aio_lines lines;
};

// The record is not there any more if remove() has stopped the transfer.
task<void> transfer_and_report(detail::aio_lines& lines,
                               std::unique_ptr<detail::aio_request> request,
                               std::weak_ptr<detail::queue_core> reporter, ukevent record) {
    co_await detail::run_transfer(lines, std::move(request));
    if (const auto queue = reporter.lock()) queue->mark_ready(&record, 1);
}

}  // namespace

result<event_key> event_queue::add(const file_transfer& request, user_data user) {
    ring* const loop = ring::current();
    if (const int error = unusable(); error != 0) return error_from(error);
    if (loop == nullptr) return error_from(-EPERM);
    auto transfer = std::make_unique<detail::aio_request>();
    transfer->socket = detail::hidden_fd::duplicate(request.socket);
    if (!transfer->socket) return error_from_errno();
    struct stat status{};
    if (::fstat(transfer->socket.number(), &status) != 0) return error_from_errno();
    if (!S_ISSOCK(status.st_mode)) return error_from(-ENOTSOCK);
    transfer->socket_identity = detail::identify_file(transfer->socket, status).number;
    transfer->file = detail::hidden_fd::duplicate(request.file);
    if (!transfer->file) return error_from_errno();
    transfer->range = {request.file_offset, request.bytes};
    const auto ticket = std::make_shared<detail::aio_completion>(detail::hidden_fd());
    transfer->ticket = ticket;

    ukevent record{};
    record.id.raw_u64 = core_->allocate_id();
    record.type = KEVENT_AIO;
    record.event = KEVENT_MASK_ALL;
    record.user_u64 = user.bits();
    const event_key key{record.id.raw_u64, event_type::aio};
    const auto make = [&](detail::source_host& host, detail::registration& target) {
        return result<std::unique_ptr<detail::source>>(
            detail::make_loop_aio_source(host, target, ticket));
    };
    if (const int failure = core_->add_with_source(record, make); failure != 0)
        return error_from(failure);
    try {
        detail::aio_lines& lines = loop->service<loop_transfers>().lines;
        spawn(*loop, transfer_and_report(lines, std::move(transfer), core_, record));
    } catch (...) {
        remove(key);
        throw;
    }
    return key;
}

}  // namespace kevring
