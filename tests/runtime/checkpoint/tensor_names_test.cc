#include "runtime/checkpoint/tensor_names.h"

#include <fmt/format.h>

#include <set>
#include <sstream>

#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

struct Totals {
  const char* size;
  std::size_t tensors;
  std::uint64_t parameters, bytes;
};

// Section 1.3 of the specification: counts and totals of the published files.
TEST(TensorNames, TotalsOfThePublishedSizes) {
  const std::vector<Totals> rows = {
      {"2B", 625, 2127532032, 4255064064},        {"4B", 713, 4437815808, 8875631616},
      {"8B", 750, 8767123696, 17534247392},       {"32B", 1058, 33357390064, 66714780128},
      {"30B-A3B", 882, 31070754032, 62141508064}, {"235B-A22B", 1388, 235670022896, 471340045792}};
  for (const Totals& row : rows) {
    std::uint64_t bytes = 0;
    const auto tensors = stored_tensors(parsed(published_config(row.size)));
    for (const FileTensor& tensor : tensors) {
      bytes += tensor.bytes();
    }
    EXPECT_EQ(tensors.size(), row.tensors) << row.size;
    EXPECT_EQ(bytes, row.bytes) << row.size;
    EXPECT_EQ(bytes / 2, row.parameters) << row.size;
  }
  EXPECT_EQ(stored_tensors(parsed(with_fp8(published_config("235B-A22B")))).size(), 1952U);
}

TEST(TensorNames, AreThoseOfThePublishedIndex) {
  std::set<std::string> expected, found;
  for (const ExpectedTensor& tensor : expected_tensors(parsed(published_config("30B-A3B")))) {
    EXPECT_TRUE(expected.insert(tensor.name).second) << tensor.name;
  }
  const auto index = boost::json::parse(read_text(published("model.safetensors.index.json")));
  for (const auto& member : index.at("weight_map").as_object()) {
    found.insert(std::string(member.key()));
  }
  EXPECT_EQ(expected, found);
}

// Names, types and shapes of all 1170 tensors as listed from the published FP8 shards.
TEST(TensorNames, AreThoseOfThePublishedFp8Shards) {
  std::map<std::string, std::string> found, expected;
  std::istringstream lines(read_text(published("fp8_tensors.txt")));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('#')) {
      continue;
    }
    std::istringstream words(line);
    std::string name, type, shape;
    int count = 0;
    words >> name >> count >> type >> shape;
    for (int n = 0; n < count; ++n) {
      std::string one = name;
      if (const auto at = one.find(".N."); at != std::string::npos) {
        one.replace(at, 3, fmt::format(".{}.", n));
      }
      found[one] = type + " " + shape;
    }
  }
  ASSERT_EQ(found.size(), 1170U);
  for (const FileTensor& tensor :
       stored_tensors(parse_model_config(read_text(published("config_fp8.json")), "config.json"))) {
    expected[tensor.name] = tensor.type + " " + fmt::format("{}", fmt::join(tensor.shape, ","));
  }
  EXPECT_EQ(expected, found);
}

TEST(TensorNames, PartsHaveNames) {
  std::set<std::string_view> names;
  for (const ModelPart part : {ModelPart::kEmbedding, ModelPart::kAttention, ModelPart::kMlp, ModelPart::kExperts,
                               ModelPart::kRouter, ModelPart::kNorms, ModelPart::kHead, ModelPart::kVision}) {
    names.insert(model_part_name(part));
  }
  EXPECT_EQ(names.size(), 8U);
}

TEST(TensorNames, MergersKeepTheirNormBeforeOrAfterTheShuffle) {
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const ExpectedTensor& tensor : expected_tensors(parsed(published_config("8B")))) {
    shapes[tensor.name] = tensor.shape;
  }
  using Shape = std::vector<std::int64_t>;
  EXPECT_EQ(shapes[tensor_names::merger_norm(tensor_names::kMainMerger, "weight")], (Shape{1152}));
  EXPECT_EQ(shapes[tensor_names::merger_norm(2, "bias")], (Shape{4608}));
  EXPECT_EQ(shapes[tensor_names::merger_fc2(0, "weight")], (Shape{4096, 4608}));
  EXPECT_EQ(shapes[tensor_names::vision_patch_embed("weight")], (Shape{1152, 3, 2, 16, 16}));
  EXPECT_EQ(shapes[tensor_names::down_proj(35)], (Shape{4096, 12288}));
  EXPECT_FALSE(shapes.contains(tensor_names::router(0)));
}

}  // namespace
}  // namespace zoetrope::test
