// What most requests want needs nothing to wait for: a file that is known and in memory, in a block
// that has room or on a socket that takes it. It costs no coroutine frame.
#include "connection.hpp"
#include "examples/httpd/http/conditions.hpp"

#include <kevring/sendfile/send_file.hpp>

#include <system_error>

#include <sys/uio.h>

namespace httpd {

connection::fast_path_result connection::try_fast_path(const request_head& head, output_buffer& out,
                                                       bool keep, rest_of_file& rest) {
    if (head.method() != request_method::get || has_condition_or_range(head))
        return fast_path_result::nothing;
    // What is cached is the next configuration's.
    if (configuration_ != worker_.current_configuration().get()) return fast_path_result::nothing;
    cached_file* const known = worker_.cached(head.path(), true);
    if (known == nullptr || known->file->available != 0) return fast_path_result::nothing;
    if (known->file->plain.byte_count > small_body_bytes) {
        if (known->file->plain.byte_count > kevring::try_send_bytes_max)
            return fast_path_result::nothing;
        // Waiting here costs no frame either, and what is known may be another by then.
        if (!kevring::send_budget::available(worker_.loop())) return fast_path_result::later;
        return begin_large(*known, head, out, keep, rest);
    }
    const bool answered =
        send_shared(*known, head, out, keep) || send_small_now(*known, head, out, keep);
    return answered ? fast_path_result::all : fast_path_result::nothing;
}

// Says what another request for the file was told at this moment.
bool connection::send_shared(const cached_file& known, const request_head& head, output_buffer& out,
                             bool keep) {
    const shared_response* const made = worker_.find_shared(known);
    if (made == nullptr || made->keep_alive != keep || made->minor_version != head.minor_version())
        return false;
    if (out.empty()) {
        out.share(made->block, made->byte_count);
    } else {
        if (out.room() < made->byte_count) return false;
        out.append({made->block->data(), made->byte_count});
    }
    record_result(200, known.file->plain.byte_count);
    count_small(known.file->plain.byte_count);
    ++worker_.counters().shared_responses;
    return true;
}

bool connection::send_small_now(cached_file& known, const request_head& head, output_buffer& out,
                                bool keep) {
    const open_file& file = known.file->plain;
    if (out.room() < head_room + file.byte_count) return false;
    const std::size_t before = out.size();
    put_whole_head(head, file, out, keep);
    const byte_range all{.first = 0, .count = file.byte_count};
    const auto byte_count = static_cast<std::size_t>(all.count);
    if (known.content_valid) {
        out.append({known.content.get(), byte_count});
        ++worker_.counters().content_hits;
    } else if (byte_count > 0) {
        if (read_nowait(file, all, out) != static_cast<ssize_t>(byte_count)) {
            out.truncate(before);
            return false;
        }
        worker_.keep_content(known, {out.write_position() - byte_count, byte_count});
    }
    count_small(all.count);
    if (before == 0)
        worker_.publish_shared(known, {.block = out.block(),
                                       .byte_count = out.size(),
                                       .minor_version = head.minor_version(),
                                       .keep_alive = keep});
    return true;
}

// Sends what waits, and of the file what the socket takes.
connection::fast_path_result connection::begin_large(const cached_file& known,
                                                     const request_head& head, output_buffer& out,
                                                     bool keep, rest_of_file& rest) {
    if (out.room() < head_room) return fast_path_result::nothing;
    const open_file& file = known.file->plain;
    const std::size_t before = out.size();
    put_whole_head(head, file, out, keep);
    const kevring::send_report report = kevring::try_send_file(
        worker_.loop(), client_.native(), file.descriptor,
        kevring::file_range{.offset = 0, .count = file.byte_count}, large_options(file, out));
    if (report.bytes_sent == 0) {
        out.truncate(before);
        return fast_path_result::nothing;
    }
    count_large(report);
    out.consume(static_cast<std::size_t>(report.bytes_sent - report.file_bytes));
    if (!report.error) return fast_path_result::all;
    const std::uint64_t left = file.byte_count - report.file_bytes;
    if (report.error == std::errc::operation_would_block) {
        rest = {.of = known.file, .range = {.first = report.file_bytes, .count = left}};
        return fast_path_result::a_part;
    }
    body_bytes_ -= left;  // promised, and not sent
    out.clear();
    return fast_path_result::failed;
}

// Appends what is in memory of a range that there is room for; as preadv2(2), with a negative
// error.
ssize_t connection::read_nowait(const open_file& file, byte_range range, output_buffer& out) {
    const iovec part{out.write_position(), static_cast<std::size_t>(range.count)};
    const ssize_t count = worker_.loop().system().read_nowait(file.descriptor.number(), &part, 1,
                                                              static_cast<off_t>(range.first));
    if (count > 0) out.commit(static_cast<std::size_t>(count));
    return count;
}

}  // namespace httpd
