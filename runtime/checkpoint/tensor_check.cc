#include "runtime/checkpoint/tensor_check.h"

#include <fmt/format.h>

#include <set>
#include <string_view>

#include "runtime/checkpoint/tensor_names.h"

namespace zoetrope {
namespace {

using Names = std::set<std::string, std::less<>>;

constexpr std::string_view kOneCheckpoint = "check that config.json and the shards are of one checkpoint";

std::string kind_text(StoredType type, const std::vector<std::int64_t>& shape) {
  return fmt::format("{} {}", stored_type_name(type), shape_text(shape));
}

std::string place_text(std::string_view tensor, const std::filesystem::path& file) {
  return fmt::format("tensor {} in {}", zoetrope::quoted(tensor, 200), file.string());
}

std::string place_text(const StoredTensor& tensor) { return place_text(tensor.name, tensor.file->path()); }

std::string remedy_for(StoredType found) {
  const bool known = found == StoredType::kBF16 || found == StoredType::kF32 || found == StoredType::kF8E4M3;
  return known ? std::string(kOneCheckpoint)
               : fmt::format("convert the checkpoint to BF16; {} weights are not implemented", stored_type_name(found));
}

class Comparison {
 public:
  Comparison(const Checkpoint& checkpoint, const ShardIndex& index, Problems& problems)
      : checkpoint_(checkpoint), index_(index), problems_(problems) {
    for (const auto& shard : checkpoint.shards()) {
      opened_.insert(shard->name());
      explained_.insert(shard->broken().begin(), shard->broken().end());
    }
  }

  void expect(const ExpectedTensor& expected) {
    known_.insert(expected.name);
    const StoredTensor* found = checkpoint_.find(expected.name);
    if (found == nullptr) {
      if (!expected.optional || index_.weight_map.contains(expected.name)) {
        missing(expected.name, expected.quantised() ? StoredType::kF8E4M3 : StoredType::kBF16, expected.shape);
      }
      return;
    }
    const bool quantised = expected.quantised() && found->type == StoredType::kF8E4M3;
    if (found->shape != expected.shape || !(quantised || found->type == StoredType::kBF16)) {
      const StoredType type =
          expected.quantised() && found->type != StoredType::kBF16 ? StoredType::kF8E4M3 : StoredType::kBF16;
      problems_.add({place_text(*found), kind_text(found->type, found->shape),
                     kind_text(type, expected.shape) + ", as config.json says", remedy_for(found->type)});
    }
    if (quantised) {
      expect_scale(expected);
    }
  }

  void refuse_rest() {
    for (const auto& shard : checkpoint_.shards()) {
      for (const StoredTensor& tensor : shard->tensors()) {
        if (!known_.contains(tensor.name)) {
          problems_.add({place_text(tensor), kind_text(tensor.type, tensor.shape),
                         "no such tensor for this config.json", std::string(kOneCheckpoint)});
        }
      }
    }
  }

  void compare_index() {
    if (!index_.present) {
      return;
    }
    for (const auto& shard : checkpoint_.shards()) {
      for (const StoredTensor& tensor : shard->tensors()) {
        const auto entry = index_.weight_map.find(tensor.name);
        if (entry == index_.weight_map.end() || entry->second != shard->name()) {
          problems_.add({place_text(tensor),
                         entry == index_.weight_map.end()
                             ? "no entry in the index"
                             : fmt::format("{} in the index", zoetrope::quoted(entry->second)),
                         fmt::format("{} in the index", zoetrope::quoted(shard->name())), "fetch the index again"});
        }
      }
    }
    for (const auto& [tensor, file] : index_.weight_map) {
      if (checkpoint_.find(tensor) == nullptr && !known_.contains(tensor) && opened_.contains(file) &&
          !explained_.contains(tensor)) {
        problems_.add({place_text(tensor, checkpoint_.folder() / file), "nothing (it is missing)",
                       "the tensor that the index names", "fetch the checkpoint again"});
      }
    }
  }

 private:
  void expect_scale(const ExpectedTensor& weight) {
    const std::string name = tensor_names::scale_of(weight.name);
    known_.insert(name);
    const StoredTensor* found = checkpoint_.find(name);
    if (found == nullptr) {
      missing(name, StoredType::kF32, weight.scale_shape);
    } else if (found->shape != weight.scale_shape || found->type != StoredType::kF32) {
      problems_.add({place_text(*found), kind_text(found->type, found->shape),
                     fmt::format("{}, one scale per block of 128 x 128 of {}",
                                 kind_text(StoredType::kF32, weight.scale_shape), weight.name),
                     remedy_for(found->type)});
    }
  }

  void missing(const std::string& name, StoredType type, const std::vector<std::int64_t>& shape) {
    const auto entry = index_.weight_map.find(name);
    const bool named = entry != index_.weight_map.end();
    if (explained_.contains(name) || (named && !opened_.contains(entry->second))) {
      return;
    }
    std::filesystem::path file = checkpoint_.folder();
    if (named || index_.files.size() == 1) {
      file /= named ? entry->second : index_.files.front();
    }
    problems_.add({place_text(name, file), "nothing (it is missing)", kind_text(type, shape) + ", as config.json says",
                   "fetch the checkpoint again, or correct config.json"});
  }

  const Checkpoint& checkpoint_;
  const ShardIndex& index_;
  Problems& problems_;
  Names known_;      // expected, scales included
  Names explained_;  // in a header, but reported as wrong there
  Names opened_;     // files
};

void add_notes(const Checkpoint& checkpoint, const ShardIndex& index, std::vector<std::string>& notes) {
  const std::string head = tensor_names::head();
  const bool tied = checkpoint.config().text.tied;
  if (checkpoint.find(head) != nullptr && tied) {
    notes.push_back(fmt::format("{} is not used: text_config.tie_word_embeddings makes the embedding the head", head));
  }
  if (checkpoint.find(head) == nullptr && !tied) {
    notes.push_back(fmt::format(
        "{} is absent though text_config.tie_word_embeddings is not true: the embedding is the head", head));
  }
  if (index.total_size && *index.total_size != checkpoint.bytes_total()) {
    notes.push_back(fmt::format("the index says total_size {}, the tensors have {} bytes", *index.total_size,
                                checkpoint.bytes_total()));
  }
}

}  // namespace

void check_tensors(const Checkpoint& checkpoint, const ShardIndex& index, Problems& problems,
                   std::vector<std::string>& notes) {
  Comparison comparison(checkpoint, index, problems);
  for (const ExpectedTensor& expected : expected_tensors(checkpoint.config())) {
    comparison.expect(expected);
  }
  comparison.refuse_rest();
  comparison.compare_index();
  if (problems.empty()) {
    add_notes(checkpoint, index, notes);
  }
}

}  // namespace zoetrope
