#include "runtime/checkpoint/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_map>

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/folder.h"

namespace zoetrope {
namespace {

// Files beside the shards that this program reads, digested always: they are small.
constexpr std::array<std::string_view, 11> kSideFiles = {"config.json",
                                                         "generation_config.json",
                                                         "preprocessor_config.json",
                                                         "video_preprocessor_config.json",
                                                         "processor_config.json",
                                                         "tokenizer.json",
                                                         "tokenizer_config.json",
                                                         "vocab.json",
                                                         "merges.txt",
                                                         "chat_template.json",
                                                         "chat_template.jinja"};
constexpr std::string_view kIndexFile = "model.safetensors.index.json";

void add(Inspection::Sum& sum, const StoredTensor& tensor, bool scale) {
  sum.tensors += 1;
  sum.bytes += tensor.bytes;
  sum.parameters += scale ? 0 : static_cast<std::uint64_t>(tensor.elements());
}

void add_tensors(const Checkpoint& checkpoint, Inspection& out) {
  struct Place {
    std::string_view part;
    bool scale;
  };
  std::unordered_map<std::string, Place> places;
  std::vector<std::string_view> order;
  for (const ExpectedTensor& tensor : expected_tensors(checkpoint.config())) {
    const std::string_view part = model_part_name(tensor.part);
    places.emplace(tensor.name, Place{part, false});
    places.emplace(tensor_names::scale_of(tensor.name), Place{part, true});
    if (std::find(order.begin(), order.end(), part) == order.end()) {
      order.push_back(part);
    }
  }
  order.emplace_back("unexpected");
  std::unordered_map<std::string_view, Inspection::Sum> parts;
  for (const auto& shard : checkpoint.shards()) {
    for (const StoredTensor& tensor : shard->tensors()) {
      const auto place = places.find(tensor.name);
      const bool scale = place != places.end() && place->second.scale;
      add(out.total, tensor, scale);
      add(parts[place == places.end() ? "unexpected" : place->second.part], tensor, scale);
      add(out.types[std::string(stored_type_name(tensor.type))], tensor, scale);
    }
  }
  for (const std::string_view part : order) {
    if (parts.contains(part)) {
      out.parts.emplace_back(part, parts[part]);
    }
  }
}

// Fills what can be known; a file that cannot be read is a problem.
void add_file(const std::filesystem::path& folder, std::string_view name, std::size_t tensors, bool digest,
              Inspection& out) {
  try {
    const std::filesystem::path path = file_in(folder, name);
    std::error_code ec;
    if (!std::filesystem::is_regular_file(path, ec)) {
      return;
    }
    Inspection::File file{std::string(name), std::filesystem::file_size(path), tensors, ""};
    file.sha256 = digest ? file_digest(path) : "";
    out.files.push_back(std::move(file));
  } catch (const Error& error) {
    out.problems.emplace_back(error.what());
  } catch (const std::filesystem::filesystem_error& error) {
    out.problems.emplace_back(error.what());
  }
}

void add_layouts(const ModelConfig& config, Inspection& out) {
  const TextConfig& text = config.text;
  constexpr std::uint64_t kBytesPerValue = 2;  // KV in bf16
  out.kv_bytes_per_token =
      2 * kBytesPerValue * static_cast<std::uint64_t>(text.layers) * static_cast<std::uint64_t>(text.kv_width());
  out.sliced = sliced_matrices(config);
  out.tp = legal_tp(config);
  for (int tp = 1; tp <= kTpMax; tp *= 2) {
    if (const auto refusal = tp_refusal(config, tp)) {
      out.tp_refused.emplace_back(tp, refusal->found);
    }
  }
}

}  // namespace

Inspection inspect_checkpoint(const std::filesystem::path& folder, const InspectOptions& options) {
  Inspection out;
  out.folder = folder;
  for (const std::string_view name : kSideFiles) {
    add_file(folder, name, 0, true, out);
  }
  add_file(folder, kIndexFile, 0, true, out);
  Problems problems;
  try {
    const Checkpoint checkpoint = Checkpoint::open_all(folder, problems, out.notes);
    out.config = checkpoint.config();
    add_layouts(checkpoint.config(), out);
    add_tensors(checkpoint, out);
    for (const auto& shard : checkpoint.shards()) {
      add_file(folder, shard->name(), shard->tensors().size(), options.digests, out);
    }
    if (problems.empty()) {
      out.head = checkpoint.head().name;
      out.digest = checkpoint.digest();
    }
  } catch (const Error& error) {
    problems.add(error);
  }
  for (const std::string& line : problems.lines()) {
    if (std::find(out.problems.begin(), out.problems.end(), line) == out.problems.end()) {
      out.problems.push_back(line);
    }
  }
  return out;
}

}  // namespace zoetrope
