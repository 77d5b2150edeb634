#include "runtime/engine/step_cost.h"

#include <gtest/gtest.h>

namespace zoetrope {
namespace {

// 8 query and 2 KV heads of 64: a row and a token of context are 2 * 512 multiply-adds.
TextConfig text(int experts) {
  TextConfig config;
  config.hidden = 512;
  config.heads = 8;
  config.kv_heads = 2;
  config.head_dim = 64;
  config.intermediate = experts > 0 ? 0 : 1024;
  config.experts = experts;
  config.experts_per_token = experts > 0 ? 2 : 0;
  config.expert_intermediate = experts > 0 ? 256 : 0;
  return config;
}

RingStep layer(bool shared) {
  RingStep step;
  step.span = {.members = 2, .first_member = 0, .ring = 4};
  step.heads = 8;
  step.kv_heads = 2;
  step.page_bytes = 131072;
  step.query_bytes = 1024;
  step.partial_bytes = 2112;
  step.shared = shared;
  return step;
}

// A row meets a page of both KV heads in 2 * 4 * (0.75 + 24 / 96) us = 8 us: a token in 1 / 32 us.
constexpr RingRates kRates{.page_seconds = 24e-6,
                           .row_seconds = 0.75e-6,
                           .partial_seconds = 1e-6,
                           .message_seconds = 1e-3,
                           .byte_seconds = 1e-9,
                           .hidden = 0.5};

TEST(WorkModel, RatesBecomeTokensOfContext) {
  const WorkModel work = work_model(text(0), kRates, layer(false));
  EXPECT_EQ(work.exchange, 32000);
  EXPECT_EQ(work.page_transfer, 4194) << "131,072 bytes of a nanosecond";
  EXPECT_EQ(work.page_visit, 2097) << "half of it under arithmetic";
  EXPECT_EQ(work.row_visit, 82) << "a microsecond, and 3,136 bytes";
  EXPECT_DOUBLE_EQ(work.lone_row, (2 * 4 * 0.75 + 2 * 24) / 8) << "a page is fetched for four rows in place of 96";
  EXPECT_FALSE(work.shared);
  EXPECT_TRUE(work_model(text(0), kRates, layer(true)).shared);
}

TEST(WorkModel, RowsAreCountedByTheModel) {
  const WorkModel dense = work_model(text(0), kRates, layer(false));
  // Attention has 512 * (2 * 512 + 2 * 128) numbers, the MLP 3 * 512 * 1,024.
  EXPECT_EQ(dense.row, (655360 + 1572864) / 1024);
  EXPECT_EQ(dense.row_served, 0);
  const WorkModel mixture = work_model(text(16), kRates, layer(false));
  EXPECT_EQ(mixture.row_served, 2 * 3 * 512 * 256 / 1024);
  EXPECT_EQ(mixture.row, (655360 + 512 * 16 + 786432) / 1024);
  EXPECT_EQ(mixture.servers, 4) << "the whole ring";
}

TEST(WorkModel, ARingOfOneHasNoRates) {
  const WorkModel work = work_model(text(0), {}, layer(true));
  EXPECT_EQ(work.exchange, 0);
  EXPECT_EQ(work.page_transfer, 131072 * 256 / 1024);
  EXPECT_EQ(work.lone_row, 1);
}

}  // namespace
}  // namespace zoetrope
