// main.cpp: a program of somebody else, built against an installed copy. Prints the version.
#include <kevring/kevring.hpp>

#include <cstdio>

int main() { return std::puts(kevring::version()) < 0; }
