// What most requests want needs nothing to wait for: a file that is known and in memory, in a block
// that has room or on a socket that takes it. It costs no coroutine frame.
#include "connection.hpp"
#include "examples/httpd/http/conditions.hpp"

#include <kevring/sendfile/send_file.hpp>

#include <system_error>

#include <sys/uio.h>

namespace httpd {

connection::at_once connection::answer_at_once(const request_head& head, outbox& out, bool keep,
                                               rest_of_file& rest) {
    if (head.method() != request_method::get || asks_for_other_than_whole(head))
        return at_once::nothing;
    // What is cached is the next configuration's.
    if (with_ != of_.current().get()) return at_once::nothing;
    cached_file* const known = of_.cached(head.path(), true);
    if (known == nullptr || known->file->available != 0) return at_once::nothing;
    if (known->file->plain.byte_count > small_body_bytes) {
        if (known->file->plain.byte_count > kevring::at_once_bytes_max) return at_once::nothing;
        // Waiting here costs no frame either, and what is known may be another by then.
        if (!kevring::send_turn::is_free(of_.on())) return at_once::later;
        return begin_large(*known, head, out, keep, rest);
    }
    const bool answered =
        repeat_small(*known, head, out, keep) || add_small(*known, head, out, keep);
    return answered ? at_once::all : at_once::nothing;
}

// Says what another request for the file was told at this moment.
bool connection::repeat_small(const cached_file& known, const request_head& head, outbox& out,
                              bool keep) {
    const made_response* const made = of_.made_from(known);
    if (made == nullptr || made->keep_alive != keep || made->minor_version != head.minor_version())
        return false;
    if (out.empty()) {
        out.share(made->block, made->byte_count);
    } else {
        if (out.room() < made->byte_count) return false;
        out.add({made->block->data(), made->byte_count});
    }
    note(200, known.file->plain.byte_count);
    count_small(known.file->plain.byte_count);
    ++of_.counters().repeated;
    return true;
}

bool connection::add_small(cached_file& known, const request_head& head, outbox& out, bool keep) {
    const open_file& file = known.file->plain;
    if (out.room() < head_room + file.byte_count) return false;
    const std::size_t before = out.size();
    put_whole_head(head, file, out, keep);
    const byte_range all{.first = 0, .count = file.byte_count};
    const auto byte_count = static_cast<std::size_t>(all.count);
    if (known.content_is_good) {
        out.add({known.content.get(), byte_count});
        ++of_.counters().from_content;
    } else if (byte_count > 0) {
        if (read_nowait(file, all, out) != static_cast<ssize_t>(byte_count)) {
            out.cut_to(before);
            return false;
        }
        of_.keep_content(known, {out.end() - byte_count, byte_count});
    }
    count_small(all.count);
    if (before == 0)
        of_.remember(known, {.block = out.block(),
                             .byte_count = out.size(),
                             .minor_version = head.minor_version(),
                             .keep_alive = keep});
    return true;
}

// Sends what waits, and of the file what the socket takes.
connection::at_once connection::begin_large(const cached_file& known, const request_head& head,
                                            outbox& out, bool keep, rest_of_file& rest) {
    if (out.room() < head_room) return at_once::nothing;
    const open_file& file = known.file->plain;
    const std::size_t before = out.size();
    put_whole_head(head, file, out, keep);
    const kevring::send_report report = kevring::try_send_file(
        of_.on(), client_.native(), file.descriptor,
        kevring::file_range{.offset = 0, .count = file.byte_count}, large_options(file, out));
    if (report.bytes_sent == 0) {
        out.cut_to(before);
        return at_once::nothing;
    }
    count_large(report);
    out.sent(static_cast<std::size_t>(report.bytes_sent - report.file_bytes));
    if (!report.error) return at_once::all;
    const std::uint64_t left = file.byte_count - report.file_bytes;
    if (report.error == std::errc::operation_would_block) {
        rest = {.of = known.file, .range = {.first = report.file_bytes, .count = left}};
        return at_once::a_part;
    }
    body_bytes_ -= left;  // promised, and not sent
    out.clear();
    return at_once::failed;
}

// Appends what is in memory of a range that there is room for; as preadv2(2), with a negative
// error.
ssize_t connection::read_nowait(const open_file& file, byte_range range, outbox& out) {
    const iovec part{out.end(), static_cast<std::size_t>(range.count)};
    const ssize_t count = of_.on().system().read_nowait(file.descriptor.number(), &part, 1,
                                                        static_cast<off_t>(range.first));
    if (count > 0) out.added(static_cast<std::size_t>(count));
    return count;
}

}  // namespace httpd
