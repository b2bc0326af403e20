#include <kevring/sendfile/send_report.hpp>

#include <algorithm>
#include <string>

namespace kevring {
namespace {

class send_category final : public std::error_category {
public:
    const char* name() const noexcept override { return "kevring.send_file"; }
    std::string message(int code) const override {
        switch (static_cast<send_errc>(code)) {
            case send_errc::file_shrank: return "the file became shorter while it was sent";
            case send_errc::file_changed: return "the file was changed while it was sent";
        }
        return "unknown error";
    }
    std::error_condition default_error_condition(int) const noexcept override {
        return std::errc::io_error;
    }
};

}  // namespace

std::error_code make_error_code(send_errc code) noexcept {
    static const send_category category;
    return {static_cast<int>(code), category};
}

std::string_view name_of(send_reason reason) noexcept {
    switch (reason) {
        case send_reason::none: return "none";
        case send_reason::small: return "small";
        case send_reason::resident: return "resident";
        case send_reason::not_resident: return "not_resident";
        case send_reason::copy_required: return "copy_required";
        case send_reason::requested: return "requested";
        case send_reason::forced: return "forced";
        case send_reason::fallback: return "fallback";
    }
    return "unknown";
}

send_path send_report::path() const noexcept {
    return static_cast<send_path>(std::max_element(path_bytes.begin(), path_bytes.end()) -
                                  path_bytes.begin());
}

}  // namespace kevring
