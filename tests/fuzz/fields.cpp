// fields.cpp: values of fields, and a mime.types file, of any bytes are read without harm.
#include <algorithm>
#include <array>
#include <string>

#include "examples/httpd/http/accept_encoding.hpp"
#include "examples/httpd/http/conditions.hpp"
#include "examples/httpd/http/http_date.hpp"
#include "examples/httpd/http/media_type.hpp"
#include "examples/httpd/http/response_head.hpp"
#include "fuzz.hpp"

using namespace httpd;
using fuzz::check;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const fuzz::exact_copy copy(fuzz::text_of(data, size));
    const std::string_view text = copy.text();

    if (const auto date = parse_http_date(text, 1'800'000'000)) {
        std::array<char, http_date_bytes> written{};
        write_http_date(*date, written);
        check(parse_http_date({written.data(), written.size()}, 0) == date,
              "a date is its own date");
    }

    const accepted_codings codings(text);
    check(!codings.in_order().empty() && codings.in_order().size() <= content_coding_count,
          "one at least");
    for (unsigned available = 0; available < 16; ++available) {
        const content_coding chosen = codings.choose(available);
        check(
            chosen == content_coding::identity || (available & accepted_codings::bit(chosen)) != 0,
            "what is chosen is there");
    }

    const validators file{.entity_tag = "\"x\"", .modified_second = 784'111'777};
    condition_fields fields;
    fields.if_none_match = text;
    const bool listed = evaluate(fields, file, true, 0) == condition_outcome::not_modified;
    check(!listed || text.find('*') != text.npos || text.find("\"x\"") != text.npos,
          "a listed tag is in the list");
    fields = {};
    fields.if_match = text;
    evaluate(fields, file, true, 0);

    media_types types;
    types.load(text);
    check(!types.find(text).empty() && !built_in_media_type(text).empty(),
          "there is always a type");

    std::array<char, 100> room{};
    const std::string_view head = response_head(room, 301).field("Location", text).finish();
    check(std::count(head.begin(), head.end(), '\n') == (head.empty() ? 0 : 3),
          "a value ends no line");
    return 0;
}
