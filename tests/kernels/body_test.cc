#include "kernels/body.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

TEST(Body, ReferenceFirstAndPortableEverywhere) {
  const auto here = bodies_here();
  ASSERT_GE(here.size(), 2u);
  EXPECT_EQ(here[0], BodyKind::kReference);
  EXPECT_EQ(here[1], BodyKind::kPortable);
  EXPECT_TRUE(std::is_sorted(here.begin(), here.end()));
}

TEST(Body, TheBestIsTheFastestOfTheNewest) {
  const auto here = bodies_here();
  if (here.back() != BodyKind::kAvx512Bf16) {
    EXPECT_EQ(best_body(), here.back());
    return;
  }
  EXPECT_TRUE(best_body() == BodyKind::kAvx512 || best_body() == BodyKind::kAvx512Bf16);
  // Long runs in turn, the median of the ratio: a half or two on the CPUs that were seen, so noise does not decide.
  std::vector<double> ratios;
  for (int turn = 0; turn < 5; ++turn) {
    const auto rate = [](BodyKind kind) {
      const auto begin = std::chrono::steady_clock::now();
      const double operations = body(kind).matmul.multiply_in_registers(40000, true);
      return operations / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    };
    ratios.push_back(rate(BodyKind::kAvx512Bf16) / rate(BodyKind::kAvx512));
  }
  std::sort(ratios.begin(), ratios.end());
  EXPECT_EQ(best_body(), ratios[2] < 1.0 ? BodyKind::kAvx512 : BodyKind::kAvx512Bf16) << "ratio " << ratios[2];
  EXPECT_EQ(best_body(), best_body());
}

TEST(Body, NamesLeadBack) {
  for (const BodyKind kind :
       {BodyKind::kReference, BodyKind::kPortable, BodyKind::kAvx2, BodyKind::kAvx512, BodyKind::kAvx512Bf16}) {
    EXPECT_EQ(body_named(body_name(kind)), kind);
  }
  try {
    body_named("avx1024");
    FAIL() << "an unknown name was taken";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("portable"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("avx1024"), std::string::npos) << error.what();
  }
}

TEST(Body, TablesAreFullAndMissingInstructionsRefused) {
  const auto here = bodies_here();
  for (const BodyKind kind :
       {BodyKind::kReference, BodyKind::kPortable, BodyKind::kAvx2, BodyKind::kAvx512, BodyKind::kAvx512Bf16}) {
    if (std::find(here.begin(), here.end(), kind) == here.end()) {
      EXPECT_THROW(body(kind), Error) << body_name(kind);
      fmt::print("[ bodies   ] SKIPPED {}: this CPU has not its instructions\n", body_name(kind));
      continue;
    }
    const Body& table = body(kind);
    EXPECT_EQ(table.name, body_name(kind));
    EXPECT_NE(table.matmul.panel, nullptr);
    EXPECT_NE(table.matmul.pack_tile, nullptr);
    EXPECT_GE(table.matmul.tile_rows, 1);
    EXPECT_NE(table.row.rms_norm, nullptr);
    EXPECT_NE(table.row.elementary, nullptr);
  }
}

}  // namespace
}  // namespace zoetrope
