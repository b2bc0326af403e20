// bench/examples/asio/address.hpp: HOST:PORT as an endpoint of Asio, for the programs in this folder.
#pragma once

#include <asio/ip/tcp.hpp>

#include <stdexcept>
#include <string>

inline asio::ip::tcp::endpoint parse_address(const std::string& text) {
    const auto colon = text.rfind(':');
    if (colon == std::string::npos) throw std::invalid_argument(text + ": HOST:PORT, please");
    return {asio::ip::make_address(text.substr(0, colon)),
            static_cast<unsigned short>(std::stoi(text.substr(colon + 1)))};
}
