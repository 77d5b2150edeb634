#include "runtime/checkpoint/inspect.h"
#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

TEST(InspectText, ForPeople) {
  const std::string text = inspection_text(inspect_checkpoint(golden_checkpoint("tiny-moe-yarn")));
  for (const std::string part :
       {"Qwen3VLMoeForConditionalGeneration",
        "5 layers of 128, heads 8 / 2 of 32, 8 experts of 64, 2 per token, vocabulary 1536",
        "1000000, theta 5000000, YaRN factor 3 of 262144, attention factor 1.109861228866811", "2 224 240", "4 448 480",
        "legal tp      1, 2, 4, 8\n", "legal pp      1 to ", "head          lm_head.weight\n",
        "model-00002-of-00002.safetensors", "(not hashed: --digests)"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  }
  EXPECT_TRUE(text.ends_with("\nok\n"));
}

TEST(InspectText, Json) {
  const std::string text = inspection_json(inspect_checkpoint(golden_checkpoint("tiny-moe")));
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  const boost::json::value json = boost::json::parse(text);
  EXPECT_EQ(json.at("ok"), true);
  EXPECT_EQ(json.at("total").at("parameters").to_number<int>(), 2224240);
  EXPECT_EQ(json.at("config").at("text").at("experts"), 8);
  EXPECT_EQ(json.at("layouts").at("tp"), (boost::json::array{1, 2, 4, 8}));
  EXPECT_EQ(json.at("problems").as_array().size(), 0U);
  EXPECT_EQ(json.at("digest").as_string().size(), 64U);
}

TEST(InspectText, Problems) {
  TemporaryFolder folder;
  const Inspection inspection = inspect_checkpoint(folder.path());
  EXPECT_TRUE(inspection_text(inspection).ends_with("\nnot ok: 1 problem\n")) << inspection_text(inspection);
  const boost::json::value json = boost::json::parse(inspection_json(inspection));
  EXPECT_EQ(json.at("ok"), false);
  EXPECT_EQ(json.at("problems").as_array().size(), 1U);
}

}  // namespace
}  // namespace zoetrope::test
