#include "kernels/sample.h"

#include <boost/json.hpp>
#include <chrono>
#include <cmath>
#include <fstream>
#include <sstream>

#include "monitoring/error.h"
#include "tests/golden_folder.h"
#include "tests/kernels/row_bodies.h"
#include "tests/safetensors_file.h"

namespace zoetrope {
namespace {

using test::normals;

TEST(Philox, GivesThePublishedAnswers) {  // the known answers of Random123 for philox4x32, 10 rounds
  using Words = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox({0, 0}, {0, 0, 0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0xa4093822, 0x299f31d0}, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

SamplingSettings settings_of(const boost::json::object& options) {
  SamplingSettings s;
  for (const auto& [key, value] : options) {
    if (key == "temperature") {
      s.temperature = value.to_number<double>();
    } else if (key == "top_k") {
      s.top_k = value.to_number<int>();
    } else if (key == "top_p") {
      s.top_p = value.to_number<double>();
    } else if (key == "min_p") {
      s.min_p = value.to_number<double>();
    } else if (key == "repetition_penalty") {
      s.repetition_penalty = value.to_number<double>();
    } else {
      ADD_FAILURE() << "an option the test does not know: " << key;
    }
  }
  return s;
}

// Where the cut of top-p falls between equal logits the library keeps any of them (its sort is not stable); the house
// keeps the higher ids. So: the same probabilities as a multiset, each id's own wherever it is not one of those equal
// ones.
void expect_same_distribution(const std::vector<float>& found, const std::vector<float>& expected, bool top_p,
                              const std::string& where) {
  ASSERT_EQ(found.size(), expected.size()) << where;
  float least = 1.0f;
  for (const float p : expected) {
    least = p > 0.0f ? std::min(least, p) : least;
  }
  int swapped = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (top_p && (found[i] == 0.0f) != (expected[i] == 0.0f)) {
      EXPECT_NEAR(found[i] + expected[i], least, 1e-6) << where << " id " << i;
      swapped += found[i] == 0.0f ? 1 : -1;
      continue;
    }
    EXPECT_EQ(found[i] == 0.0f, expected[i] == 0.0f) << where << " id " << i;
    EXPECT_NEAR(found[i], expected[i], 1e-6) << where << " id " << i;
  }
  EXPECT_EQ(swapped, 0) << where << ": as many as the library's";
}

TEST(SamplingDistribution, IsThatOfTheLibrary) {
  set_fp_environment();
  const auto folder = test::golden_folder() / "sampling";
  const auto json = test::golden_json(folder / "sampling.json").as_object();
  const test::SafetensorsFile arrays(folder / "sampling.safetensors");
  int rows = 0;
  for (const auto& value : json.at("rows").as_array()) {
    const auto& row = value.as_object();
    const std::string index = std::to_string(row.at("index").to_number<int>());
    auto logits = arrays.data<float>("logits." + index);
    std::vector<std::int32_t> previous;
    for (const auto& id : row.at("previous_ids").as_array()) {
      previous.push_back(id.to_number<std::int32_t>());
    }
    // The library does not tell prompt from generated: any cut between them gives the same.
    const std::span<const std::int32_t> ids = previous;
    const auto& options = row.at("options").as_object();
    const auto found = sampling_distribution(logits, ids.first(previous.size() / 2), ids.subspan(previous.size() / 2),
                                             settings_of(options));
    expect_same_distribution(found, arrays.data<float>("probabilities." + index), options.contains("top_p"),
                             "row " + index);
    ++rows;
  }
  EXPECT_GT(rows, 40);
}

TEST(Sample, DrawsTheSameOnEveryBody) {
  const auto logits = normals(5003, 3, 3.0f);
  const std::vector<std::int32_t> prompt{4, 9, 9, 300}, generated{17, 17, 2};
  SamplingSettings many[4];
  many[1] = {.temperature = 0.7, .top_k = 20, .top_p = 0.8, .seed = 11};
  many[2] = {.temperature = 1.3, .top_p = 0.95, .min_p = 0.01, .seed = 12, .choice = 3};
  many[3] = {.temperature = 0.9,
             .top_k = 50,
             .repetition_penalty = 1.3,
             .presence_penalty = 1.5,
             .frequency_penalty = 0.2,
             .seed = 13};
  for (const SamplingSettings& settings : many) {
    const auto run = [&](const Compute& on) {
      std::vector<float> all;
      for (int position = 0; position < 30; ++position) {
        auto row = logits;
        const Sampled s = sample(on, row, prompt, generated, position, settings);
        all.push_back(static_cast<float>(s.token));
        all.push_back(s.logprob);
      }
      return all;
    };
    test::same_on_all_ways(Precision::kBf16, run);
  }
}

TEST(Sample, FollowsItsDistribution) {
  const test::OnWay on({best_body(), 1, Precision::kBf16, ""});
  const auto logits = normals(40, 5, 1.5f);
  const SamplingSettings base{.temperature = 0.8, .top_k = 12, .top_p = 0.9};
  auto copy = logits;
  const auto p = sampling_distribution(copy, {}, {}, base);
  constexpr int kDraws = 40000;
  std::vector<int> counts(40);
  for (int i = 0; i < kDraws; ++i) {
    SamplingSettings s = base;
    s.seed = static_cast<std::uint64_t>(i % 100) << 30;
    auto row = logits;
    ++counts[static_cast<std::size_t>(sample(on.compute, row, {}, {}, i / 100, s).token)];
  }
  double chi = 0.0;
  int kept = 0;
  for (std::size_t i = 0; i < 40; ++i) {
    if (p[i] == 0.0f) {
      EXPECT_EQ(counts[i], 0) << i;
      continue;
    }
    chi += std::pow(counts[i] - kDraws * static_cast<double>(p[i]), 2) / (kDraws * static_cast<double>(p[i]));
    ++kept;
  }
  EXPECT_GT(kept, 4);
  EXPECT_LT(chi, 40.0) << "with " << kept - 1 << " degrees of freedom";
}

TEST(Sample, SeedChoiceAndPositionEachChangeTheDraw) {
  const test::OnWay on({best_body(), 1, Precision::kBf16, ""});
  const std::vector<float> flat(10007, 0.0f);
  const auto token = [&](std::int64_t position, std::uint64_t seed, std::uint32_t choice) {
    auto row = flat;
    SamplingSettings s;
    s.seed = seed;
    s.choice = choice;
    return sample(on.compute, row, {}, {}, position, s).token;
  };
  const auto first = token(5, 1, 0);
  EXPECT_EQ(token(5, 1, 0), first);
  EXPECT_NE(token(6, 1, 0), first);
  EXPECT_NE(token(5 + (std::int64_t{1} << 32), 1, 0), first);
  EXPECT_NE(token(5, 2, 0), first);
  EXPECT_NE(token(5, 1 + (std::uint64_t{1} << 32), 0), first);
  EXPECT_NE(token(5, 1, 1), first);
  // A flat distribution maps u to id floor(u V): 53 bits of the first two words.
  const auto words = philox({1, 0}, {5, 0, 0, 0});
  const double u = static_cast<double>(((static_cast<std::uint64_t>(words[0]) << 32) | words[1]) >> 11) * 0x1p-53;
  EXPECT_EQ(first, static_cast<std::int32_t>(u * 10007));
}

TEST(Sample, GreedyTakesTheLowestOfEqualIds) {
  const test::OnWay on({best_body(), 1, Precision::kBf16, ""});
  std::vector<float> logits(300, -1.0f);
  logits[250] = logits[40] = logits[41] = 2.5f;
  const SamplingSettings s{.temperature = 0.0, .top_k = 3, .top_p = 0.1};
  auto row = logits;
  EXPECT_EQ(sample(on.compute, row, {}, {}, 0, s).token, 40);
  row = logits;
  const auto p = sampling_distribution(row, {}, {}, s);
  EXPECT_EQ(p[40], 1.0f);
  EXPECT_EQ(std::count(p.begin(), p.end(), 0.0f), 299);
}

TEST(Sample, GreedySeesPenalties) {
  const test::OnWay on({best_body(), 1, Precision::kBf16, ""});
  const std::vector<float> logits{1.0f, 1.2f, 1.1f, -3.0f};
  SamplingSettings s{.temperature = 0.0, .repetition_penalty = 1.5};
  const std::vector<std::int32_t> prompt{1, 1}, generated{2};
  auto row = logits;
  EXPECT_EQ(sample(on.compute, row, prompt, generated, 0, s).token, 0);  // 1.2 / 1.5 once, 1.1 / 1.5
  s = {.temperature = 0.0, .frequency_penalty = 0.2};
  row = logits;
  EXPECT_EQ(sample(on.compute, row, prompt, generated, 0, s).token, 1);  // prompt ids do not count here
  row = logits;
  const std::vector<std::int32_t> twice{1, 1};
  s = {.temperature = 0.0, .presence_penalty = 0.05, .frequency_penalty = 0.04};
  EXPECT_EQ(sample(on.compute, row, {}, twice, 0, s).token, 2);  // 1.2 - 2 * 0.04 - 0.05 = 1.07
}

TEST(Sample, LogprobsAreTheModelsOwn) {
  const test::OnWay on({best_body(), 1, Precision::kBf16, ""});
  const auto logits = normals(4000, 8, 4.0f);
  double total = 0.0;
  for (const float x : logits) {
    total += std::exp(static_cast<double>(x));
  }
  SamplingSettings s{.temperature = 0.5, .top_k = 5, .repetition_penalty = 2.0, .seed = 3, .top_logprobs = 7};
  const std::vector<std::int32_t> prompt{1, 2, 3, 4};
  auto row = logits;
  const Sampled drawn = sample(on.compute, row, prompt, {}, 1, s);
  EXPECT_NEAR(drawn.logprob, logits[static_cast<std::size_t>(drawn.token)] - std::log(total), 2e-6);
  ASSERT_EQ(drawn.top.size(), 7U);
  for (std::size_t i = 0; i < 7; ++i) {
    EXPECT_NEAR(drawn.top[i].logprob, logits[static_cast<std::size_t>(drawn.top[i].token)] - std::log(total), 2e-6);
    const float here = logits[static_cast<std::size_t>(drawn.top[i].token)];
    EXPECT_EQ(std::count_if(logits.begin(), logits.end(), [&](float x) { return x > here; }), static_cast<int>(i));
  }
  const std::vector<float> equal{1.0f, 2.0f, 2.0f, 2.0f};
  row = equal;
  s = {.temperature = 0.0, .top_logprobs = 9};
  const Sampled all = sample(on.compute, row, {}, {}, 0, s);
  ASSERT_EQ(all.top.size(), 4U);
  EXPECT_EQ(all.top[0].token, 1);  // equal ones by id
  EXPECT_EQ(all.top[1].token, 2);
  EXPECT_EQ(all.top[3].token, 0);
}

// The message of the refusal, or nothing.
std::string refusal(std::vector<float> logits, const SamplingSettings& s) {
  const test::OnWay on({best_body(), 1, Precision::kBf16, ""});
  try {
    sample(on.compute, logits, {}, {}, 0, s);
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kRequest);
    return error.what();
  }
  return "";
}

TEST(Sample, RefusesWhatHasNoAnswer) {
  std::vector<float> logits(100, 1.0f);
  EXPECT_EQ(refusal(logits, {}), "");
  logits[73] = std::nanf("");
  EXPECT_NE(refusal(logits, {}).find("token 73"), std::string::npos);
  logits[73] = 1.0f;
  logits[5] = std::numeric_limits<float>::infinity();
  EXPECT_NE(refusal(logits, {.temperature = 0.0}).find("token 5"), std::string::npos);
  logits[5] = -std::numeric_limits<float>::infinity();
  EXPECT_NE(refusal(logits, {}).find("token 5"), std::string::npos);
  logits[5] = 100.0f;
  EXPECT_NE(refusal(logits, {.temperature = 1e-37}).find("temperature"), std::string::npos);
  for (const SamplingSettings& s :
       {SamplingSettings{.temperature = -1.0}, SamplingSettings{.temperature = std::nan("")},
        SamplingSettings{.top_k = -1}, SamplingSettings{.top_p = 1.5}, SamplingSettings{.min_p = -0.1},
        SamplingSettings{.repetition_penalty = 0.0}, SamplingSettings{.presence_penalty = std::nan("")},
        SamplingSettings{.top_logprobs = -2}}) {
    EXPECT_NE(refusal(logits, s), "");
  }
}

TEST(Sample, TakesVocabulariesOfAnySize) {
  const test::OnWay on({best_body(), 1, Precision::kBf16, ""});
  for (int vocabulary = 1; vocabulary < 70; ++vocabulary) {
    for (int position = 0; position < 20; ++position) {
      auto logits = normals(vocabulary, static_cast<unsigned>(vocabulary));
      const auto token = sample(on.compute, logits, {}, {}, position, {.top_k = 20, .top_p = 0.9, .seed = 5}).token;
      EXPECT_TRUE(token >= 0 && token < vocabulary);
    }
  }
}

// Not a gate (the machine may be busy): prints what a row of the real vocabulary costs on one core.
TEST(Sample, PrintsItsPrice) {
  const test::OnWay on({best_body(), 1, Precision::kBf16, ""});
  const auto logits = normals(151936, 1, 3.0f);
  struct Priced {
    const char* name;
    SamplingSettings settings;
  };
  for (const Priced& priced :
       {Priced{"greedy", {.temperature = 0.0}},
        Priced{"top-k 20, top-p 0.8", {.temperature = 0.7, .top_k = 20, .top_p = 0.8}},
        Priced{"top-p 0.95 alone", {.temperature = 0.7, .top_p = 0.95}}, Priced{"no cut", {}},
        Priced{"penalties", {.temperature = 0.7, .top_k = 20, .top_p = 0.8, .presence_penalty = 1.5}}}) {
    double best = 1e9;
    for (int i = 0; i < 9; ++i) {
      auto row = logits;
      const auto start = std::chrono::steady_clock::now();
      sample(on.compute, row, {}, {}, i, priced.settings);
      const auto spent = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
      best = std::min(best, spent);
    }
    std::printf("  %-20s %.2f ms\n", priced.name, best);
    EXPECT_LT(best, 100.0) << priced.name;
  }
}

}  // namespace
}  // namespace zoetrope
