// Files of a checkpoint folder by their plain names. Names that come from a file (weight_map) never lead out of the
// folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace zoetrope {

// Error(kStartup) unless `folder` is a directory that holds a config.json; says what it looks like instead.
void check_checkpoint_folder(const std::filesystem::path& folder);

// folder/name for a plain file name. Error(kStartup) when the name has a directory part, or when the file is a symbolic
// link that leads elsewhere than into the folder itself or into the `blobs` of the hub cache that the folder lies in
// (models--O--N/snapshots/REVISION/file -> ../../blobs/HASH). A file that does not exist passes.
std::filesystem::path file_in(const std::filesystem::path& folder, std::string_view name);

// A text file of at most 64 MiB, whole. Error(kStartup) when it is missing, larger or unreadable.
std::string read_text_file(const std::filesystem::path& file);

// What a file that is no safetensors file seems to be, from its first bytes ("a Git LFS pointer ..."); empty: unknown.
std::string looks_like(std::string_view first_bytes);

}  // namespace zoetrope
