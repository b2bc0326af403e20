#include "environment.hpp"

#include "examples/httpd/observe/error_log.hpp"

#include <kevring/runtime/features.hpp>
#include <kevring/sendfile/send_report.hpp>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace httpd {
namespace {

// describe() has a line "NAME: yes, ..." or "NAME: no, ..." for each feature.
std::vector<std::string> feature_names() {
    std::vector<std::string> names;
    const std::string text = kevring::describe();
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        const std::string line = text.substr(begin, end - begin);
        const std::size_t colon = line.find(": ");
        if (colon != line.npos &&
            (line.compare(colon + 2, 4, "yes,") == 0 || line.compare(colon + 2, 3, "no,") == 0))
            names.push_back(line.substr(0, colon));
        begin = end + 1;
    }
    return names;
}

std::vector<std::string> path_names() {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < kevring::send_path_count; ++i)
        names.emplace_back(name_of(static_cast<kevring::send_path>(i)));
    return names;
}

void check(const char* variable, char separator, const std::vector<std::string>& known) {
    const char* const text = std::getenv(variable);
    std::string_view rest = text == nullptr ? std::string_view() : std::string_view(text);
    while (!rest.empty()) {
        const std::size_t end = std::min(rest.find(separator), rest.size());
        const std::string name(rest.substr(0, end));
        rest.remove_prefix(std::min(end + 1, rest.size()));
        if (name.empty() || std::ranges::find(known, name) != known.end()) continue;
        std::string list;
        for (const std::string& each : known) list.append(list.empty() ? "" : ", ").append(each);
        log_message(severity::warning, std::string(variable) + '=' + text + ": there is no '" +
                                           name + "'; it is ignored; known are " + list);
    }
}

}  // namespace

void check_environment() {
    check("KEVRING_WITHOUT", ',', feature_names());
    check("KEVRING_SEND_PATH", '\0', path_names());
}

}  // namespace httpd
