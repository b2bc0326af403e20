#include "file_response.hpp"

#include "examples/httpd/http/accept_encoding.hpp"
#include "examples/httpd/http/conditions.hpp"
#include "examples/httpd/http/request_head.hpp"

#include <array>

namespace httpd {

content_coding coding_to_make(const request_head& head, const served_file& served) {
    if (served.compressible == 0) return content_coding::identity;
    std::array<char, 1024> scratch;
    const auto accepted = head.list(known_field::accept_encoding, scratch);
    if (!accepted) return content_coding::identity;
    const content_coding best =
        accepted_codings(*accepted).choose(served.available | served.compressible);
    const bool is_there = (served.available & accepted_codings::bit(best)) != 0;
    return is_there ? content_coding::identity : best;
}

file_response plan_file_response(const request_head& head, const served_file& served,
                                 std::time_t now) {
    using enum file_response::kind;
    file_response plan;
    plan.file = &served.plain;
    std::array<char, 1024> scratch;  // of fields that come in several lines
    if (served.available != 0) {
        if (const auto accepted = head.list(known_field::accept_encoding, scratch))
            plan.file = &served.variant(accepted_codings(*accepted).choose(served.available));
    }
    if (!has_condition_or_range(head)) [[likely]]
        return plan;
    const validators current = plan.file->current_validators();
    switch (evaluate(condition_fields_of(head, scratch), current, true, now)) {
        case condition_outcome::precondition_failed: plan.what = precondition_failed; return plan;
        case condition_outcome::not_modified: plan.what = not_modified; return plan;
        case condition_outcome::proceed: break;
    }
    const auto range = head.single(known_field::range);
    if (!range || head.method() != request_method::get || !if_range_matches(head, current, now))
        return plan;
    plan.ranges.emplace(*range, plan.file->byte_count);
    if (plan.ranges->outcome() == range_outcome::partial) plan.what = ranges;
    if (plan.ranges->outcome() == range_outcome::unsatisfiable) plan.what = unsatisfiable;
    return plan;
}

}  // namespace httpd
