// connection.hpp: one client's connection: requests in, responses out.
#pragma once

#include "connection_timeout.hpp"
#include "examples/httpd/content/document_root.hpp"
#include "examples/httpd/http/byte_range.hpp"
#include "examples/httpd/http/network.hpp"
#include "examples/httpd/http/request_parser.hpp"
#include "examples/httpd/http/response_head.hpp"
#include "examples/httpd/observe/access_log.hpp"
#include "file_response.hpp"
#include "output_buffer.hpp"
#include "worker.hpp"

#include <kevring/net/socket.hpp>
#include <kevring/net/tls_stream.hpp>
#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/sendfile/send_options.hpp>
#include <kevring/sendfile/send_report.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace httpd {

/// The address of the other end; nothing for a Unix socket.
std::optional<ip_address> address_of(const kevring::socket& client);

/// The requests of one wake-up, and their responses until they are sent.
struct request_batch {
    request_batch(worker& owner, kevring::borrowed_buffer bytes)
        : buffer(std::move(bytes)), out(owner) {}

    kevring::borrowed_buffer buffer;   // `input` points into it, or into `collected`
    kevring::borrowed_buffer further;  // the last bytes of a body; `rest` points into it
    std::string collected;             // a head that was received in several pieces
    std::string_view input;            // from the first byte of the current head
    std::string_view rest;             // the bytes after the current request
    request_parser parser;
    output_buffer out;
};

/// Its member functions are in the files of their steps: connection.cpp (the loop over requests),
/// serve_tls.cpp (https), read_head.cpp, read_body.cpp, dispatch.cpp (which response),
/// fast_path.cpp (without waiting),
/// respond.cpp (heads and short responses) and send_content.cpp (bodies of files).
///
/// Lifetime   Lives in the frame of serve(); its worker outlives it.
/// Thread     That of its loop.
class connection {
public:
    /// Answers the requests of `client` until one side ends the connection.
    static kevring::task<void> serve(worker& owner, kevring::socket client);
    /// The same after a TLS handshake.
    static kevring::task<void> serve_tls(worker& owner, kevring::socket client);

    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;

    /// The server stops: an idle connection ends now, another one after its response.
    void drain() noexcept;

    std::size_t index = 0;  // the worker's

private:
    connection(worker& owner, kevring::socket client, kevring::cancel_scope& scope)
        : worker_(owner),
          client_(std::move(client)),
          scope_(scope),
          timeout_(owner.loop(), scope, client_.native()) {
        worker_.add(*this);
    }
    ~connection() { worker_.remove(*this); }

    // The largest head of a file's response, without the lines of the configuration for its path.
    static constexpr std::size_t head_room = 2 * 1024 + custom_responses::lines_bytes_max;

    /// After a response. close_without_lingering: the client asked for the end, so no byte of it is
    /// in transit that a close would answer by a reset.
    enum class outcome : std::uint8_t { keep, close, close_without_lingering };

    /// The response to a request, as far as it is known without waiting.
    struct decision {
        enum class kind : std::uint8_t {
            status,  ///< a response without a file
            file,    ///< `known`, by `plan`
            lookup   ///< the file system has to be asked
        };
        kind what = kind::lookup;
        unsigned status = 500;
        std::string lines = {};        // of a status
        cached_file* known = nullptr;  // until the loop runs again
        file_response plan;
    };

    enum class fast_path_result : std::uint8_t {
        unsuitable,      ///< nothing is done
        sent,            ///< all of the response is sent, or in the output buffer
        partially_sent,  ///< `remaining_` is to be sent
        failed,          ///< the connection must end
        wait             ///< for the send budget; then try again
    };
    struct remaining_file {
        std::shared_ptr<const served_file> owner;  // it may leave the cache
        const open_file* file = nullptr;
        byte_range range{};
    };

    // connection.cpp
    kevring::task<outcome> handle_requests(kevring::borrowed_buffer first, std::string bytes = {});
    kevring::task<void> finish(outcome after);
    outcome outcome_of_last(const request_batch& batch) const noexcept;
    void extend_timeout(std::chrono::milliseconds time) noexcept;
    void extend_body_timeout(std::uint64_t byte_count) noexcept;
    void select_configuration();
    void record_request(const request_head& head);
    void log(const request_head& head, std::chrono::nanoseconds took);

    // serve_tls.cpp
    kevring::task<std::optional<kevring::tls_stream>> begin_tls();
    kevring::task<kevring::result<kevring::borrowed_buffer>> receive();
    kevring::task<kevring::send_result> send(std::string_view text);
    kevring::task<bool> send_encrypted(const open_file& file, byte_range range, output_buffer& out);
    bool is_as_promised(const open_file& file) const noexcept;

    // read_proxy_header.cpp
    bool expects_proxy_header();
    kevring::task<std::optional<std::string>> read_proxy_header();
    kevring::task<outcome> begin_proxied();

    // read_head.cpp
    kevring::task<bool> read_head(request_batch& batch);
    void send_timed_out(const request_batch& batch) noexcept;

    // read_body.cpp
    kevring::task<bool> read_body(request_batch& batch);

    // dispatch.cpp
    decision decide(const request_head& head, bool may_be_closed);
    kevring::task<bool> respond(const request_head& head, output_buffer& out, bool keep);
    kevring::task<resource> find_cached(std::string_view path);
    std::optional<ip_address> client_address(const request_head& head);
    kevring::task<bool> look_up(const request_head& head, output_buffer& out, bool keep);
    kevring::task<void> compress(const request_head& head, served_file& file);

    // authorize.cpp
    enum class access : std::uint8_t { granted, refused, unknown };  // unknown: verify it
    access check_access(const request_head& head);
    access check_access(const request_head& head, std::string_view name);
    kevring::task<unsigned> authorize(const request_head& head, access known);
    std::string refusal_lines(unsigned status) const;

    // fast_path.cpp
    fast_path_result try_fast_path(const request_head& head, output_buffer& out, bool keep);
    fast_path_result send_small_now(cached_file& known, const open_file& file,
                                    const request_head& head, output_buffer& out, bool keep);
    fast_path_result send_large_now(const cached_file& known, const open_file& file,
                                    const request_head& head, output_buffer& out, bool keep);
    bool send_shared(const cached_file& known, const open_file& file, const request_head& head,
                     output_buffer& out, bool keep);

    // respond.cpp
    kevring::task<bool> respond_file(const request_head& head, const file_response& plan,
                                     output_buffer& out, bool keep);
    kevring::task<bool> respond_listing(const request_head& head, std::string name,
                                        output_buffer& out, bool keep);
    kevring::task<bool> send_short_response(const request_head& head, unsigned status, bool keep,
                                            std::string_view lines, output_buffer& out);
    bool write_short_response(const request_head& head, unsigned status, bool keep,
                              std::string_view lines, output_buffer& out);
    kevring::task<void> send_error(unsigned status, const request_head& head, output_buffer& out);
    std::string path_lines(const request_head& head) const;
    response_head begin_head(output_buffer& out, unsigned status);
    void write_whole_head(const request_head& head, const open_file& file, output_buffer& out,
                          bool keep);
    void write_not_modified(const request_head& head, const open_file& file, output_buffer& out,
                            bool keep);
    void record_result(unsigned status, std::uint64_t body_bytes) noexcept {
        status_ = status;
        body_bytes_ = body_bytes;
    }

    // send_content.cpp
    kevring::task<bool> send_ranges(const request_head& head, const open_file& file,
                                    const byte_ranges& ranges, output_buffer& out, bool keep);
    kevring::task<bool> send_bytes(const open_file& file, byte_range range, output_buffer& out);
    kevring::task<bool> send_small(const open_file& file, byte_range range, output_buffer& out);
    kevring::task<bool> send_large(const open_file& file, byte_range range, output_buffer& out);
    kevring::task<bool> send_page(std::string_view page, output_buffer& out);
    kevring::task<bool> flush(output_buffer& out);
    kevring::task<void> flush_last(output_buffer& out);
    kevring::task<bool> make_room(output_buffer& out, std::size_t byte_count);
    kevring::task<bool> append(std::string_view text, output_buffer& out);
    void keep_content(const request_head& head, const served_file& served, const open_file& file,
                      const output_buffer& out);
    ssize_t read_nowait(const open_file& file, byte_range range, output_buffer& out);
    kevring::send_options large_options(const open_file& file,
                                        const output_buffer& out) const noexcept;
    void count_large(const kevring::send_report& report) noexcept;
    void count_small(std::uint64_t byte_count) noexcept {
        worker_.counters().path_bytes[static_cast<std::size_t>(kevring::send_path::send)] +=
            byte_count;
    }

    worker& worker_;
    kevring::socket client_;
    kevring::tls_stream* tls_ = nullptr;  // of an https connection; client_ is empty then
    kevring::cancel_scope& scope_;
    connection_timeout timeout_;
    bool idle_ = true;
    bool last_ = false;         // this response ends the connection
    bool nonblocking_ = false;  // the socket is known to have O_NONBLOCK

    // Of the request that is being answered.
    // Held while requests are answered by it: an idle connection holds none.
    std::shared_ptr<const configuration> held_;
    const configuration* configuration_ = nullptr;
    const site* site_ = nullptr;
    unsigned status_ = 0;
    std::uint64_t body_bytes_ = 0;  // that the kernel accepted, or will with the next send
    std::int64_t began_ns_ = 0;     // when its head was complete, if durations are recorded
    remaining_file remaining_;
    struct peer_address {
        std::optional<ip_address> address;  // nothing for a Unix socket
        std::optional<address_counts::holder> counted;
    };
    std::unique_ptr<peer_address> peer_;  // null until it is needed
    struct login {
        const authentication_rule* rule = nullptr;  // of the path that was checked last
        std::string user;                           // that the request names
    };
    std::unique_ptr<login> login_;  // null for a site that any client may read
};

}  // namespace httpd
