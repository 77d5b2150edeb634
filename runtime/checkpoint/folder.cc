#include "runtime/checkpoint/folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <vector>

#include "monitoring/error.h"
#include "runtime/json/json.h"

namespace zoetrope {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kNamesShown = 6;
constexpr std::uintmax_t kTextBytesMax = std::uintmax_t{64} << 20;

std::string contents_of(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code ec;
  for (fs::directory_iterator entry(folder, ec), end; !ec && entry != end && names.size() < 1000; entry.increment(ec)) {
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNamesShown); ++i) {
    text += (i == 0 ? "" : ", ") + zoetrope::quoted(names[i], 60);
  }
  if (names.empty()) {
    return "an empty folder";
  }
  return fmt::format("a folder with {}{}", text,
                     names.size() > kNamesShown ? fmt::format(" and {} more", names.size() - kNamesShown) : "");
}

bool lies_in(const fs::path& file, const fs::path& folder) { return file.parent_path() == folder; }

// .../snapshots/REVISION keeps its files in .../blobs (the hub client's cache).
bool lies_in_hub_blobs(const fs::path& file, const fs::path& folder) {
  const fs::path snapshots = folder.parent_path();
  return snapshots.filename() == "snapshots" && lies_in(file, snapshots.parent_path() / "blobs");
}

}  // namespace

void check_checkpoint_folder(const fs::path& folder) {
  std::error_code ec;
  const std::string remedy = "name the folder that holds config.json and the safetensors files";
  if (!fs::exists(folder, ec)) {
    refuse(Radius::kStartup, {folder.string(), "no such folder", "a checkpoint folder", remedy});
  }
  if (!fs::is_directory(folder, ec)) {
    refuse(Radius::kStartup, {folder.string(), "a file", "a checkpoint folder", remedy});
  }
  if (!fs::exists(folder / "config.json", ec)) {
    refuse(Radius::kStartup, {folder.string(), contents_of(folder), "a checkpoint folder with config.json", remedy});
  }
}

fs::path file_in(const fs::path& folder, std::string_view name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string_view::npos ||
      name.find('\0') != std::string_view::npos) {
    refuse(Radius::kStartup,
           {folder.string(), fmt::format("the file name {}", zoetrope::quoted(name)),
            "a plain file name inside the folder", "correct the name; paths that lead elsewhere are not followed"});
  }
  fs::path file = folder / fs::path(name);
  std::error_code ec;
  if (!fs::is_symlink(file, ec)) {
    return file;
  }
  const fs::path target = fs::weakly_canonical(file, ec);
  const fs::path base = fs::weakly_canonical(folder, ec);
  if (ec || !(lies_in(target, base) || lies_in_hub_blobs(target, base))) {
    refuse(Radius::kStartup, {file.string(), fmt::format("a symbolic link to {}", zoetrope::quoted(target.string())),
                              "a file of this folder, or a link into the hub cache's blobs",
                              "copy or hard-link the file into the folder"});
  }
  return file;
}

std::string read_text_file(const std::filesystem::path& file) {
  std::error_code ec;
  if (!std::filesystem::is_regular_file(file, ec)) {
    refuse(Radius::kStartup,
           {file.string(), std::filesystem::exists(file, ec) ? "something that is no regular file" : "no such file",
            "a file of the checkpoint", "fetch the checkpoint again"});
  }
  const auto size = std::filesystem::file_size(file, ec);
  if (ec || size > kTextBytesMax) {
    refuse(Radius::kStartup, {file.string(), fmt::format("{} bytes", size),
                              fmt::format("at most {} bytes", kTextBytesMax), "check that this is the right file"});
  }
  std::ifstream in(file, std::ios::binary);
  std::string text(size, '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(size))) {
    refuse(Radius::kStartup, {file.string(), "a file that cannot be read", fmt::format("{} readable bytes", size),
                              "check its permissions"});
  }
  return text;
}

std::string looks_like(std::string_view bytes) {
  if (json::is_lfs_pointer(bytes)) {
    return "a Git LFS pointer instead of the file (fetch it with `git lfs pull`)";
  }
  if (bytes.starts_with("PK\x03\x04") || bytes.starts_with("\x80\x02")) {
    return "a PyTorch pickle, which is never loaded";
  }
  if (bytes.starts_with("GGUF")) {
    return "a GGUF file";
  }
  if (bytes.starts_with("<!DOC") || bytes.starts_with("<html")) {
    return "a web page (a download that went wrong?)";
  }
  if (bytes.starts_with("{")) {
    return "JSON text";
  }
  return "";
}

}  // namespace zoetrope
