#include "runtime/checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <array>
#include <map>

#include "monitoring/check.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/checkpoint/preprocessor_check.h"
#include "runtime/checkpoint/shard_index.h"
#include "runtime/checkpoint/tensor_check.h"

namespace zoetrope {
namespace {

constexpr std::size_t kWholeMax = std::size_t{64} << 10;  // tensors up to here are digested whole
constexpr std::size_t kPieces = 4;
constexpr std::size_t kPieceBytes = std::size_t{4} << 10;

// Read, not touched in the mapping: a fault would bring in many neighbours of each piece.
void add_sample(const StoredTensor& tensor, Digest& digest) {
  std::array<std::byte, kWholeMax> buffer;
  const auto add = [&](std::size_t at, std::size_t bytes) {
    tensor.file->read(tensor, at, buffer.data(), bytes);
    digest.add(buffer.data(), bytes);
  };
  if (tensor.bytes <= kWholeMax) {
    add(0, tensor.bytes);
    return;
  }
  const std::size_t last = tensor.bytes - kPieceBytes;
  for (std::size_t i = 0; i + 1 < kPieces; ++i) {
    add(last / (kPieces - 1) * i, kPieceBytes);
  }
  add(last, kPieceBytes);
}

}  // namespace

Checkpoint Checkpoint::open(const std::filesystem::path& folder) {
  Problems problems;
  std::vector<std::string> notes;
  Checkpoint checkpoint = open_all(folder, problems, notes);
  problems.throw_first();
  return checkpoint;
}

Checkpoint Checkpoint::open_all(const std::filesystem::path& folder, Problems& problems,
                                std::vector<std::string>& notes) {
  Checkpoint checkpoint;
  check_checkpoint_folder(folder);
  checkpoint.folder_ = folder;
  const std::filesystem::path file = file_in(folder, "config.json");
  checkpoint.config_text_ = read_text_file(file);
  checkpoint.config_ = parse_model_config(checkpoint.config_text_, file.string());
  try {
    checkpoint.generation_ = read_generation_config(folder, checkpoint.config_);
  } catch (const Error& error) {
    problems.add(error);
  }
  check_preprocessors(folder, checkpoint.config_.vision, problems);
  try {
    const ShardIndex index = read_shard_index(folder, notes);
    checkpoint.open_shards(index, problems);
    if (!checkpoint.shards_.empty()) {  // else the files themselves are the problem
      check_tensors(checkpoint, index, problems, notes);
    }
  } catch (const Error& error) {
    problems.add(error);
  }
  return checkpoint;
}

void Checkpoint::open_shards(const ShardIndex& index, Problems& problems) {
  for (const std::string& name : index.files) {
    try {
      if (auto shard = ShardFile::open(file_in(folder_, name), problems)) {
        shards_.push_back(std::move(shard));
      }
    } catch (const Error& error) {
      problems.add(error);
    }
  }
  for (const auto& shard : shards_) {
    for (const StoredTensor& tensor : shard->tensors()) {
      if (const auto [place, fresh] = tensors_.emplace(tensor.name, &tensor); !fresh) {
        problems.add({fmt::format("tensor {} in {}", zoetrope::quoted(tensor.name, 200), shard->path().string()),
                      "a tensor that is also in " + place->second->file->path().string(), "each tensor in one file",
                      "fetch the checkpoint again"});
      }
    }
  }
}

const StoredTensor* Checkpoint::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : found->second;
}

const StoredTensor& Checkpoint::tensor(std::string_view name) const {
  const StoredTensor* found = find(name);
  check(found != nullptr, fmt::format("tensor {} was checked when the checkpoint was opened", name));
  return *found;
}

bool Checkpoint::head_is_embedding() const { return config_.text.tied || find(tensor_names::head()) == nullptr; }

const StoredTensor& Checkpoint::head() const {
  return tensor(head_is_embedding() ? tensor_names::embedding() : tensor_names::head());
}

std::uint64_t Checkpoint::bytes_total() const {
  std::uint64_t bytes = 0;
  for (const auto& [name, tensor] : tensors_) {
    bytes += tensor->bytes;
  }
  return bytes;
}

std::uint64_t Checkpoint::parameters() const {
  std::uint64_t count = 0;
  for (const auto& [name, tensor] : tensors_) {
    count += name.ends_with("_scale_inv") ? 0 : static_cast<std::uint64_t>(tensor->elements());
  }
  return count;
}

std::string Checkpoint::digest() const {
  std::map<std::string_view, const StoredTensor*> sorted(tensors_.begin(), tensors_.end());
  Digest digest;
  digest.add_text("zoetrope checkpoint 1");
  digest.add_text(config_text_);
  for (const auto& [name, tensor] : sorted) {
    digest.add_text(name);
    digest.add_text(stored_type_name(tensor->type));
    digest.add_number(tensor->shape.size());
    for (const std::int64_t side : tensor->shape) {
      digest.add_number(static_cast<std::uint64_t>(side));
    }
    add_sample(*tensor, digest);
  }
  return digest.finish();
}

}  // namespace zoetrope
