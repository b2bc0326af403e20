// kevring.hpp: includes every public header of the library.
//
// tests/tidy/umbrella.py fails when a public header is missing here.
#pragma once

#include <kevring/kevent/awaitables.hpp>
#include <kevring/kevent/change_stream.hpp>
#include <kevring/kevent/event.hpp>
#include <kevring/kevent/event_queue.hpp>
#include <kevring/kevent/event_ring.hpp>
#include <kevring/kevent/event_type.hpp>
#include <kevring/kevent/event_views.hpp>
#include <kevring/kevent/signal_stream.hpp>
// The bridge needs Asio, which is optional for programs that use the library.
#if __has_include(<asio/ip/tcp.hpp>)
#include <kevring/net/asio_bridge.hpp>
#endif
#include <kevring/net/byte_reader.hpp>
#include <kevring/net/connect.hpp>
#include <kevring/net/endpoint.hpp>
#include <kevring/net/listener.hpp>
#include <kevring/net/socket.hpp>
#include <kevring/net/socket_options.hpp>
#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/features.hpp>
#include <kevring/runtime/fixed_buffer_pool.hpp>
#include <kevring/runtime/kernel.hpp>
#include <kevring/runtime/multishot.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/operations/accept.hpp>
#include <kevring/runtime/operations/advise.hpp>
#include <kevring/runtime/operations/cancel.hpp>
#include <kevring/runtime/operations/connect.hpp>
#include <kevring/runtime/operations/fsync.hpp>
#include <kevring/runtime/operations/nop.hpp>
#include <kevring/runtime/operations/open.hpp>
#include <kevring/runtime/operations/poll.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/operations/send.hpp>
#include <kevring/runtime/operations/shutdown.hpp>
#include <kevring/runtime/operations/splice.hpp>
#include <kevring/runtime/operations/statx.hpp>
#include <kevring/runtime/operations/write.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/ring_options.hpp>
#include <kevring/runtime/ring_service.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/timer_queue.hpp>
#include <kevring/runtime/version.hpp>
#include <kevring/runtime/when.hpp>
#include <kevring/runtime/work.hpp>
#include <kevring/sendfile/send_file.hpp>
#include <kevring/sendfile/send_options.hpp>
#include <kevring/sendfile/send_order.hpp>
#include <kevring/sendfile/send_plan.hpp>
#include <kevring/sendfile/send_report.hpp>
#include <kevring/sendfile/send_turn.hpp>
