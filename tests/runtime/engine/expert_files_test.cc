#include "runtime/engine/expert_files.h"

#include <gtest/gtest.h>

#include <string>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kStartup);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "accepted";
}

std::string placement_refusal(const std::string& text) {
  return refusal([&] { parse_expert_placement(text, "p.json", 3, 2, 4); });
}

TEST(ExpertPlacementFile, NamesRanksForAllLayersOrForEach) {
  const ExpertPlacement all =
      parse_expert_placement(R"({"all_layers": {"0": 3, "2": [2, 0], "1": [1]}})", "p", 3, 2, 4);
  ASSERT_EQ(all.tables.size(), 1U);
  EXPECT_EQ(all.of(1).ranks_of, (std::vector<std::vector<int>>{{3}, {1}, {0, 2}}));
  const ExpertPlacement each = parse_expert_placement(
      R"({"layers": {"1": {"0": 0, "1": 0, "2": 0}, "0": {"0": 1, "1": 2, "2": 3}}})", "p", 3, 2, 4);
  ASSERT_EQ(each.tables.size(), 2U);
  EXPECT_EQ(each.of(0).ranks_of, (std::vector<std::vector<int>>{{1}, {2}, {3}}));
  EXPECT_EQ(each.of(1).ranks_of, (std::vector<std::vector<int>>{{0}, {0}, {0}}));
}

TEST(ExpertPlacementFile, EveryMistakeIsOneLine) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"all_layers": {"0": 0, "1": 1, "2": 2, "3": 0}})", "expert '3'"},
      {R"({"all_layers": {"0": 0, "1": 1, "02": 2}})", "expert '02'"},
      {R"({"all_layers": {"0": 0, "1": 1, "-2": 2}})", "expert '-2'"},
      {R"({"all_layers": {"0": 0, "2": 2}})", "expert 1: found no rank"},
      {R"({"all_layers": {"0": 0, "1": [], "2": 2}})", "expert 1: found no rank"},
      {R"({"all_layers": {"0": 0, "1": 4, "2": 2}})", "a rank from 0 to 3"},
      {R"({"all_layers": {"0": 0, "1": -1, "2": 2}})", "a rank from 0 to 3"},
      {R"({"all_layers": {"0": 0, "1": "1", "2": 2}})", "a rank from 0 to 3"},
      {R"({"all_layers": {"0": 0, "1": 1.5, "2": 2}})", "a rank from 0 to 3"},
      {R"({"all_layers": {"0": 0, "1": [3, 1, 3], "2": 2}})", "rank 3 twice"},
      {R"({"all_layers": {"0": 0, "1": 1, "1": 2, "2": 2}})", "'1' stands twice"},
      {R"({"all_layers": 5})", "expert to rank"},
      {R"({"layers": {"0": {"0": 0, "1": 1, "2": 2}}})", "layer 1: found nothing"},
      {R"({"layers": {"0": {"0": 0, "1": 1, "2": 2}, "2": {}}})", "layer '2'"},
      {R"({})", "neither"},
      {R"({"layers": {}, "all_layers": {}})", "both"},
      {R"({"layer": {}})", "'layer'"},
      {R"([])", "p.json"},
      {"", "p.json"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_NE(placement_refusal(text).find(expected), std::string::npos) << text << "\n" << placement_refusal(text);
  }
}

TEST(ExpertLoadFile, ComesBackAsItWasWritten) {
  ExpertCounts load;
  load.experts = 3;
  load.chosen = {1, 0, 7, std::uint64_t{1} << 40, 2, 3};
  const ExpertCounts read = parse_expert_load(expert_load_text(load), "load", 3, 2);
  EXPECT_EQ(read.experts, 3);
  EXPECT_EQ(read.chosen, load.chosen);
  EXPECT_NE(refusal([&] { parse_expert_load(expert_load_text(load), "load", 4, 2); }).find("2 layers of 3 experts"),
            std::string::npos);
  for (const char* text :
       {R"({"experts": 3, "layers": [[1,2,3],[1,2]]})", R"({"experts": 3, "layers": [[1,2,3],[1,2,-3]]})",
        R"({"experts": 3, "layers": [[1,2,3],[1,2,0.5]]})", R"({"experts": 3, "layers": [[1,2,3]]})",
        R"({"layers": [[1,2,3],[1,2,3]]})"}) {
    EXPECT_NE(refusal([&] { parse_expert_load(text, "load", 3, 2); }), "accepted") << text;
  }
}

}  // namespace
}  // namespace zoetrope
