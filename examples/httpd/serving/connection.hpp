// connection.hpp: one client's connection: requests in, responses out.
#pragma once

#include "connection_timeout.hpp"
#include "examples/httpd/content/document_root.hpp"
#include "examples/httpd/http/byte_range.hpp"
#include "examples/httpd/http/request_parser.hpp"
#include "examples/httpd/http/response_head.hpp"
#include "examples/httpd/observe/access_log.hpp"
#include "output_buffer.hpp"
#include "worker.hpp"

#include <kevring/net/socket.hpp>
#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/sendfile/send_options.hpp>
#include <kevring/sendfile/send_report.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace httpd {

/// Lifetime   Lives in the frame of serve(); its worker outlives it.
/// Thread     That of its loop.
class connection {
public:
    /// Answers the requests of `client` until one side ends the connection.
    static kevring::task<void> serve(worker& of, kevring::socket client);

    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;

    /// The server is to stop: an idle connection ends now, another after its response.
    void drain() noexcept;

    std::size_t index = 0;  // the worker's

private:
    connection(worker& of, kevring::socket client, kevring::cancel_scope& scope)
        : worker_(of),
          client_(std::move(client)),
          scope_(scope),
          timeout_(of.loop(), scope, client_.native()) {
        worker_.add(*this);
    }
    ~connection() { worker_.remove(*this); }

    // A head of ours is smaller than this, whatever the file and the configuration.
    static constexpr std::size_t head_room = 2 * 1024 + custom_responses::lines_bytes_max;

    /// hang_up: the client has said that it asks nothing more.
    enum class outcome : std::uint8_t { keep, close, close_without_lingering };

    kevring::task<outcome> handle_request(kevring::borrowed_buffer first);
    kevring::task<void> finish(outcome after);
    /// What try_fast_path() has done.
    enum class fast_path_result : std::uint8_t { nothing, all, a_part, failed, later };
    struct rest_of_file {
        std::shared_ptr<const served_file> of;  // may leave the cache
        byte_range range{};
    };

    fast_path_result try_fast_path(const request_head& head, output_buffer& out, bool keep,
                                   rest_of_file& rest);
    bool send_shared(const cached_file& known, const request_head& head, output_buffer& out,
                     bool keep);
    bool send_small_now(cached_file& known, const request_head& head, output_buffer& out,
                        bool keep);
    fast_path_result begin_large(const cached_file& known, const request_head& head,
                                 output_buffer& out, bool keep, rest_of_file& rest);
    kevring::task<outcome> respond(const request_head& head, output_buffer& out, bool keep);
    kevring::task<bool> respond_file(const request_head& head, const served_file& served,
                                     output_buffer& out, bool keep);
    void keep_content(const request_head& head, const served_file& of, const output_buffer& out);
    kevring::task<bool> send_whole(const request_head& head, const open_file& file,
                                   output_buffer& out, bool keep);
    kevring::task<bool> send_ranges(const request_head& head, const open_file& file,
                                    const byte_ranges& ranges, output_buffer& out, bool keep);
    kevring::task<bool> send_bytes(const open_file& file, byte_range range, output_buffer& out);
    kevring::task<bool> send_small(const open_file& file, byte_range range, output_buffer& out);
    kevring::task<bool> send_large(const open_file& file, byte_range range, output_buffer& out);
    kevring::task<bool> flush(output_buffer& out);
    kevring::task<void> flush_last(output_buffer& out);
    kevring::task<bool> make_room(output_buffer& out, std::size_t byte_count);
    kevring::task<bool> append(std::string_view text, output_buffer& out);
    kevring::task<void> send_error(unsigned status, const request_head& head, output_buffer& out);
    kevring::task<bool> send_short_response(const request_head& head, unsigned status, bool keep,
                                            std::string_view lines, output_buffer& out);
    kevring::task<bool> respond_page(const request_head& head, std::string_view page,
                                     output_buffer& out, bool keep);
    response_head begin_head(output_buffer& out, unsigned status);
    void put_whole_head(const request_head& head, const open_file& file, output_buffer& out,
                        bool keep);
    kevring::send_options large_options(const open_file& file,
                                        const output_buffer& out) const noexcept;
    void count_large(const kevring::send_report& report) noexcept;
    ssize_t read_nowait(const open_file& file, byte_range range, output_buffer& out);
    void count_small(std::uint64_t byte_count) noexcept {
        worker_.counters().path_bytes[static_cast<std::size_t>(kevring::send_path::send)] +=
            byte_count;
    }
    void extend_body_timeout(std::uint64_t byte_count) noexcept;
    void record_result(unsigned status, std::uint64_t body_bytes) noexcept {
        status_ = status;
        body_bytes_ = body_bytes;
    }
    void begin_timing() noexcept {
        if (worker_.timing_enabled()) began_ns_ = worker_.loop().now_ns();
    }
    void finished(const request_head& head);
    void log(const request_head& head, std::chrono::nanoseconds took);
    void extend_timeout(std::chrono::milliseconds time) noexcept;

    worker& worker_;
    kevring::socket client_;
    kevring::cancel_scope& scope_;
    connection_timeout timeout_;
    bool idle_ = true;
    bool last_ = false;         // this response ends the connection
    bool nonblocking_ = false;  // the socket is known to have O_NONBLOCK

    // Of the request that is being answered.
    const configuration* configuration_ = nullptr;  // held by exchange()
    unsigned status_ = 0;
    std::uint64_t body_bytes_ = 0;  // that the kernel took, or will with the next send
    std::int64_t began_ns_ = 0;     // when its head was complete; if anyone wants to know
    std::unique_ptr<std::string> client_name_;  // as the log has it; null until it is needed
};

}  // namespace httpd
