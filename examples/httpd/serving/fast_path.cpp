// fast_path.cpp: responses that need not wait. Most requests are for a file that is known and in
// memory, and the output buffer has room or the socket accepts it: no coroutine frame is allocated.
#include "connection.hpp"

#include <kevring/sendfile/send_file.hpp>

#include <system_error>

#include <sys/uio.h>

namespace httpd {

connection::fast_path_result connection::try_fast_path(const request_head& head, output_buffer& out,
                                                       bool keep) {
    if (head.method() != request_method::get) return fast_path_result::unsuitable;
    const decision made = decide(head, true);
    if (made.what != decision::kind::file) return fast_path_result::unsuitable;
    const open_file& file = *made.plan.file;
    if (made.plan.what == file_response::kind::not_modified) {
        if (out.room() < head_room + file.lines.validators().size())
            return fast_path_result::unsuitable;
        write_not_modified(head, file, out, keep);
        return fast_path_result::sent;
    }
    if (made.plan.what != file_response::kind::whole) return fast_path_result::unsuitable;
    if (file.byte_count <= small_body_bytes)
        return send_small_now(*made.known, file, head, out, keep);
    if (file.byte_count > kevring::try_send_bytes_max || !file.descriptor.valid() ||
        tls_ != nullptr)
        return fast_path_result::unsuitable;
    // Waiting costs no frame here, and the file is looked up again afterwards.
    if (!kevring::send_budget::available(worker_.loop())) return fast_path_result::wait;
    return send_large_now(*made.known, file, head, out, keep);
}

// Sends the serialized response that another request for the file got in this loop iteration.
bool connection::send_shared(const cached_file& known, const open_file& file,
                             const request_head& head, output_buffer& out, bool keep) {
    const shared_response* const shared = worker_.find_shared(known);
    if (shared == nullptr || shared->file != &file || shared->keep_alive != keep ||
        shared->minor_version != head.minor_version())
        return false;
    if (out.empty()) {
        out.share(shared->block, shared->byte_count);
    } else {
        if (out.room() < shared->byte_count) return false;
        out.append({shared->block->data(), shared->byte_count});
    }
    record_result(200, file.byte_count);
    count_small(file.byte_count);
    ++worker_.counters().shared_responses;
    return true;
}

connection::fast_path_result connection::send_small_now(cached_file& known, const open_file& file,
                                                        const request_head& head,
                                                        output_buffer& out, bool keep) {
    if (send_shared(known, file, head, out, keep)) return fast_path_result::sent;
    const std::size_t before = out.size();
    const auto byte_count = static_cast<std::size_t>(file.byte_count);
    if (out.room() < head_room + file.lines.whole().size() + byte_count)
        return fast_path_result::unsuitable;
    const bool is_plain = &file == &known.file->plain;
    const bool in_memory = known.content_valid && is_plain;
    if (!in_memory && !file.descriptor.valid()) return fast_path_result::unsuitable;
    write_whole_head(head, file, out, keep);
    if (in_memory) {
        out.append({known.content.get(), byte_count});
        ++worker_.counters().content_hits;
    } else if (byte_count > 0) {
        const byte_range all{.first = 0, .count = file.byte_count};
        if (read_nowait(file, all, out) != static_cast<ssize_t>(byte_count)) {
            out.truncate(before);
            return fast_path_result::unsuitable;
        }
        if (is_plain)
            worker_.keep_content(site_->index, known,
                                 {out.write_position() - byte_count, byte_count});
    }
    count_small(file.byte_count);
    if (before == 0)
        worker_.publish_shared(known, {.block = out.block(),
                                       .byte_count = out.size(),
                                       .file = &file,
                                       .minor_version = head.minor_version(),
                                       .keep_alive = keep});
    return fast_path_result::sent;
}

// Sends the pending responses, and of the file as much as the socket accepts.
connection::fast_path_result connection::send_large_now(const cached_file& known,
                                                        const open_file& file,
                                                        const request_head& head,
                                                        output_buffer& out, bool keep) {
    if (out.room() < head_room + file.lines.whole().size()) return fast_path_result::unsuitable;
    const std::size_t before = out.size();
    write_whole_head(head, file, out, keep);
    const kevring::send_report report = kevring::try_send_file(
        worker_.loop(), client_.native(), file.descriptor,
        kevring::file_range{.offset = 0, .count = file.byte_count}, large_options(file, out));
    if (report.bytes_sent == 0) {
        out.truncate(before);
        return fast_path_result::unsuitable;
    }
    count_large(report);
    out.consume(static_cast<std::size_t>(report.bytes_sent - report.file_bytes));
    if (!report.error) return fast_path_result::sent;
    const std::uint64_t left = file.byte_count - report.file_bytes;
    if (report.error == std::errc::operation_would_block) {
        remaining_ = {.owner = known.file,
                      .file = &file,
                      .range = {.first = report.file_bytes, .count = left}};
        return fast_path_result::partially_sent;
    }
    body_bytes_ -= left;  // promised, and not sent
    out.clear();
    return fast_path_result::failed;
}

// Appends the part of a range that is in the page cache; as preadv2(2), with a negative error.
ssize_t connection::read_nowait(const open_file& file, byte_range range, output_buffer& out) {
    const iovec part{out.write_position(), static_cast<std::size_t>(range.count)};
    const ssize_t count = worker_.loop().system().read_nowait(file.descriptor.number(), &part, 1,
                                                              static_cast<off_t>(range.first));
    if (count > 0) out.commit(static_cast<std::size_t>(count));
    return count;
}

}  // namespace httpd
