// Checkpoint folders made for tests: copies of goldens to be damaged, and stand-ins of any size whose shards have true
// headers and holes for contents (sparse files: a 471 GB checkpoint costs a few kilobytes of disk).
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "monitoring/error.h"
#include "runtime/checkpoint/tensor_names.h"
#include "tests/golden_folder.h"
#include "tests/source_folder.h"

namespace zoetrope::test {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "zoetrope-checkpoint-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      throw std::runtime_error("no temporary folder");
    }
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ec;
    std::filesystem::remove_all(path_, ec);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::string read_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) {
    throw std::runtime_error("cannot open " + file.string());
  }
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary);
  out << text;
  if (!out.flush()) {
    throw std::runtime_error("cannot write " + file.string());
  }
}

inline std::filesystem::path golden_checkpoint(const std::string& name) {
  return golden_folder() / "checkpoints" / name;
}

inline std::filesystem::path published(const std::string& name) {
  return source_folder() / "tests/runtime/checkpoint/data/published" / name;
}

// A writable copy of a golden checkpoint's files.
inline void copy_golden(const std::string& name, const std::filesystem::path& to) {
  for (const auto& entry : std::filesystem::directory_iterator(golden_checkpoint(name))) {
    const auto target = to / entry.path().filename();
    std::filesystem::copy_file(entry.path(), target, std::filesystem::copy_options::overwrite_existing);
    std::filesystem::permissions(target, std::filesystem::perms::owner_write, std::filesystem::perm_options::add);
  }
}

inline void edit_json(const std::filesystem::path& file, const std::function<void(boost::json::object&)>& edit) {
  boost::json::value value = boost::json::parse(read_text(file));
  edit(value.as_object());
  write_text(file, boost::json::serialize(value));
}

// 8 bytes of length, the header, `data_bytes` of holes.
inline void write_sparse(const std::filesystem::path& file, const std::string& header, std::uint64_t data_bytes) {
  std::string text(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) {
    text[i] = static_cast<char>(header.size() >> (8 * i));
  }
  write_text(file, text + header);
  std::filesystem::resize_file(file, 8 + header.size() + data_bytes);
}

struct FileTensor {
  std::string name;
  std::string type;  // "BF16", "F8_E4M3", "F32"
  std::vector<std::int64_t> shape;
  std::uint64_t bytes() const {
    std::uint64_t count = type == "F32" ? 4 : type == "F8_E4M3" ? 1 : 2;
    for (const std::int64_t side : shape) {
      count *= static_cast<std::uint64_t>(side);
    }
    return count;
  }
};

// Written as the reference library does: widest types first, padded to 8 bytes.
inline void write_shard(const std::filesystem::path& file, std::vector<FileTensor> tensors) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const FileTensor& a, const FileTensor& b) {
    const auto width = [](const FileTensor& t) { return t.type == "F32" ? 4 : t.type == "BF16" ? 2 : 1; };
    return width(a) > width(b);
  });
  boost::json::object header{{"__metadata__", {{"format", "pt"}}}};
  std::uint64_t at = 0;
  for (const FileTensor& tensor : tensors) {
    const std::uint64_t end = at + tensor.bytes();
    header[tensor.name] = {{"dtype", tensor.type},
                           {"shape", boost::json::array(tensor.shape.begin(), tensor.shape.end())},
                           {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text = boost::json::serialize(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  write_sparse(file, text, at);
}

// What a published checkpoint of this configuration stores: quantised weights as e4m3 with scales, no head when tied.
inline std::vector<FileTensor> stored_tensors(const ModelConfig& config) {
  std::vector<FileTensor> out;
  for (const ExpectedTensor& tensor : expected_tensors(config)) {
    if (tensor.optional && config.text.tied) {
      continue;
    }
    out.push_back({tensor.name, tensor.quantised() ? "F8_E4M3" : "BF16", tensor.shape});
    if (tensor.quantised()) {
      out.push_back({tensor_names::scale_of(tensor.name), "F32", tensor.scale_shape});
    }
  }
  return out;
}

// Shards and index; `place` tells the file of each tensor.
inline void write_weights(const std::filesystem::path& folder, const std::vector<FileTensor>& tensors,
                          const std::function<std::string(const std::string&)>& place) {
  std::map<std::string, std::vector<FileTensor>> files;
  boost::json::object map;
  std::uint64_t bytes = 0;
  for (const FileTensor& tensor : tensors) {
    files[place(tensor.name)].push_back(tensor);
    map[tensor.name] = place(tensor.name);
    bytes += tensor.bytes();
  }
  for (const auto& [name, part] : files) {
    write_shard(folder / name, part);
  }
  write_text(folder / "model.safetensors.index.json",
             boost::json::serialize(boost::json::object{{"metadata", {{"total_size", bytes}}}, {"weight_map", map}}));
}

// The six published sizes, from the published 30B configuration and the table of the specification.
inline boost::json::object published_config(const std::string& size) {
  boost::json::object config = boost::json::parse(read_text(published("config.json"))).as_object();
  if (size == "30B-A3B") {
    return config;
  }
  struct Row {
    int hidden, layers, heads, kv, intermediate, expert;
    bool tied;
  };
  const std::map<std::string, Row> rows = {
      {"2B", {2048, 28, 16, 8, 6144, 0, true}},
      {"4B", {2560, 36, 32, 8, 9728, 0, true}},
      {"8B", {4096, 36, 32, 8, 12288, 0, false}},
      {"32B", {5120, 64, 64, 8, 25600, 0, false}},
      {"235B-A22B", {4096, 94, 64, 4, 12288, 1536, false}},
  };
  const Row row = rows.at(size);
  auto& text = config["text_config"].as_object();
  auto& vision = config["vision_config"].as_object();
  text["hidden_size"] = row.hidden;
  text["num_hidden_layers"] = row.layers;
  text["num_attention_heads"] = row.heads;
  text["num_key_value_heads"] = row.kv;
  text["intermediate_size"] = row.intermediate;
  vision["out_hidden_size"] = row.hidden;
  if (row.expert > 0) {
    text["moe_intermediate_size"] = row.expert;
  } else {
    config["architectures"] = {"Qwen3VLForConditionalGeneration"};
    config["model_type"] = "qwen3_vl";
    for (const char* key : {"num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob",
                            "decoder_sparse_step", "mlp_only_layers"}) {
      text.erase(key);
    }
  }
  if (row.tied) {
    text["tie_word_embeddings"] = true;
    vision["depth"] = 24;
    vision["hidden_size"] = 1024;
    vision["intermediate_size"] = 4096;
    vision["deepstack_visual_indexes"] = {5, 11, 17};
  }
  return config;
}

inline boost::json::object with_fp8(boost::json::object config) {
  config["quantization_config"] = {
      {"quant_method", "fp8"}, {"fmt", "e4m3"}, {"activation_scheme", "dynamic"}, {"weight_block_size", {128, 128}}};
  return config;
}

inline ModelConfig parsed(const boost::json::object& config) {
  return parse_model_config(boost::json::serialize(config), "config.json");
}

// The message of the Error that `act` throws; a failure of the test when it throws none.
inline std::string message_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kStartup);
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

inline void expect_parts(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << "no \"" << part << "\" in: " << message;
  }
  EXPECT_EQ(message.find('\n'), std::string::npos) << "more than one line: " << message;
}

}  // namespace zoetrope::test
