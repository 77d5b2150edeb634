// A mapped file that shrinks while it is read is a signal (SIGBUS), not an error that could be thrown. This turns it
// into the line that any damaged checkpoint gives: which file, what was found, what to do; exit code 1.
#pragma once

#include <cstddef>
#include <filesystem>

namespace zoetrope {

// Remembers a mapping until it is forgotten; the first one installs the handler. Signals on other addresses go on to
// whoever handled them before. More than 1,024 mappings at a time are not remembered: their signals are plain.
void remember_mapping(const std::byte* memory, std::size_t bytes, const std::filesystem::path& path);
void forget_mapping(const std::byte* memory);

}  // namespace zoetrope
