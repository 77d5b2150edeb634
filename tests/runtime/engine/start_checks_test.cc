#include "runtime/engine/start_checks.h"

#include <gtest/gtest.h>

#include <functional>

#include "monitoring/error.h"
#include "runtime/model/model.h"
#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

// 48 layers, 32 heads of 128 over 4 KV heads, 128 experts in 2 canonical slices, 262,144 positions.
ModelConfig big() { return parsed(published_config("30B-A3B")); }

const HostShare kHost{"host-a", 2, {std::int64_t{64} << 30, "MemAvailable"}};

using Change = std::function<void(EngineSettings&)>;

EngineSettings with(const Change& change) {
  EngineSettings settings;
  change(settings);
  return settings;
}

std::string refusal(
    const Layout& layout, const Change& change = [](EngineSettings&) {}, const HostShare& host = kHost) {
  return message_of([&] { check_start(big(), layout, with(change), host); });
}

// Bytes of a page of 48 layers at tp 1 in bf16.
constexpr std::int64_t kPage = std::int64_t{48} * 4 * 2 * 128 * 256 * 2;

TEST(StartChecks, LegalLayoutsPassOnEveryAxisAndTogether) {
  for (const int ring : {1, 2, 3, 4, 8, 16}) {
    for (const int tp : {1, 2, 4, 8}) {
      for (const int pp : {1, 2, 5, 48}) {
        for (int span = 0; span <= ring; span += span == 0 ? 1 : span) {
          EXPECT_NO_THROW(
              check_start(big(), {ring, tp, pp}, with([&](EngineSettings& s) { s.span_members = span; }), kHost))
              << ring << tp << pp << span;
        }
      }
      const int ranks = ring * tp;
      for (const int groups : {ranks, ranks / 2}) {
        if (groups > 0 && (groups == ranks || ranks % 2 == 0)) {
          EXPECT_NO_THROW(
              check_start(big(), {ring, tp, 1}, with([&](EngineSettings& s) { s.experts.groups = groups; }), kHost))
              << ring << tp << groups;
        }
      }
    }
  }
}

TEST(StartChecks, EachAxisIsRefusedWithItsArithmetic) {
  expect_parts(refusal({1, 3, 1}),
               {"tensor parallelism over 3 ranks: found 3, expected a power of two; choose tp from 1, 2, 4, 8"});
  expect_parts(refusal({1, 16, 1}), {"8 (canonical slices) % 16 (tp) = 8", "choose tp from 1, 2, 4, 8"});
  expect_parts(refusal({1, 1, 49}),
               {"a pipeline of 49 stages: found 48 layers for 49 stages", "choose --pp 1 to --pp 48"});
  expect_parts(refusal({129, 1, 1}), {"found 128 experts for 129 ranks", "start at most 128 ranks"});
  expect_parts(refusal({4, 1, 1}, [](EngineSettings& s) { s.experts.groups = 3; }),
               {"--ep 3 of 4 ranks: found 4 / 3 leaves 1"});
  expect_parts(refusal({4, 1, 1}, [](EngineSettings& s) { s.experts.groups = 1; }),
               {"--ep 1 of 4 ranks: found 4 / 1 = 4 ranks to cut an expert over", "2 canonical slices"});
  expect_parts(refusal({4, 1, 1}, [](EngineSettings& s) { s.span_members = 3; }),
               {"--span: found 3 over a ring of 4", "a power of two", "use --span 2"});
  expect_parts(refusal({128, 1, 1}, [](EngineSettings& s) { s.span_members = 128; }), {"at most 64", "use --span 64"});
}

// What one axis leaves for another.
TEST(StartChecks, EachPairOfAxesIsRefusedWithItsArithmetic) {
  const auto span = [](int members) { return [members](EngineSettings& s) { s.span_members = members; }; };
  const auto groups = [](int count) { return [count](EngineSettings& s) { s.experts.groups = count; }; };
  expect_parts(refusal({2, 1, 1}, span(4)),
               {"found 4 over a ring of 2 = 2 ranks / (pp 1 x tp 1)", "use --span 2"});               // ring, span
  expect_parts(refusal({2, 2, 1}, span(4)), {"found 4 over a ring of 2 = 4 ranks / (pp 1 x tp 2)"});  // tp, span
  expect_parts(refusal({1, 1, 4}, span(2)),
               {"found 2 over a ring of 1 = 4 ranks / (pp 4 x tp 1)", "use --span 1"});      // pp, span
  expect_parts(refusal({3, 1, 1}, groups(2)), {"--ep 2 of 3 ranks: found 3 / 2 leaves 1"});  // ring, ep
  expect_parts(refusal({1, 4, 1}, groups(3)), {"--ep 3 of 4 ranks: found 4 / 3 leaves 1"});  // tp, ep
  expect_parts(refusal({2, 2, 1}, groups(1)), {"4 / 1 = 4 ranks to cut an expert over"});    // ring x tp, ep
  expect_parts(refusal({2, 1, 2}, groups(4)), {"--ep 4 of 2 ranks: found 4 groups"});        // pp, ep: of a stage
  expect_parts(refusal({64, 4, 1}), {"found 128 experts for 256 ranks"});                    // ring, tp
  expect_parts(refusal({1, 3, 2}), {"tensor parallelism over 3 ranks"});                     // tp, pp
  expect_parts(refusal({2, 1, 50}), {"48 layers for 50 stages"});                            // ring, pp
  const auto both = [](EngineSettings& s) { s.span_members = 4, s.experts.groups = 4; };
  expect_parts(refusal({2, 2, 1}, both), {"found 4 over a ring of 2"});  // span, ep
}

TEST(StartChecks, AContextBeyondTheModelIsRefused) {
  const HostShare rich{"host-a", 1, {std::int64_t{1} << 40, "MemAvailable"}};
  EXPECT_NO_THROW(check_start(big(), {}, with([](EngineSettings& s) { s.context_tokens_max = 262144; }), rich));
  expect_parts(
      refusal({}, [](EngineSettings& s) { s.context_tokens_max = 262145; }),
      {"--context: found 262145 tokens, expected at most 262144, the positions of this model; use --context 262144"});
}

TEST(StartChecks, MoreMembersThanPagesAreRefused) {
  const auto spanned = [](std::int64_t context, int members) {
    return [=](EngineSettings& s) { s.context_tokens_max = context, s.span_members = members; };
  };
  EXPECT_NO_THROW(check_start(big(), {4, 1, 1}, with(spanned(769, 4)), kHost));  // 4 pages
  expect_parts(refusal({4, 1, 1}, spanned(768, 4)),
               {"--span: found 4 members for a context of 768 tokens = 3 pages of 256", "one member for each page",
                "use --span 2"});
  expect_parts(refusal({4, 1, 1}, spanned(1, 2)), {"2 members for a context of 1 tokens = 1 pages", "use --span 1"});
}

TEST(StartChecks, AContextLongerThanAllPoolsIsRefused) {
  EXPECT_EQ(kv_page_bytes(big(), {}, Precision::kBf16), kPage);
  EXPECT_EQ(kv_page_bytes(big(), {1, 4, 1}, Precision::kBf16), kPage / 4);
  EXPECT_EQ(kv_page_bytes(big(), {1, 1, 48}, Precision::kBf16), kPage / 48);
  EXPECT_EQ(kv_page_bytes(big(), {}, Precision::kFp32), 2 * kPage);
  const auto pools = [](std::int64_t context, std::int64_t pages, int span) {
    return [=](EngineSettings& s) {
      s.context_tokens_max = context, s.kv_bytes_per_rank = pages * kPage + 5, s.span_members = span;
    };
  };
  for (const auto& [ring, span, members] :
       {std::array{1, 0, 1}, std::array{2, 0, 2}, std::array{3, 0, 2}, std::array{4, 0, 4}, std::array{4, 2, 2}}) {
    const std::int64_t most = 10 * 256 * members;
    EXPECT_NO_THROW(check_start(big(), {ring, 1, 1}, with(pools(most, 10, span)), kHost)) << ring << span;
    expect_parts(refusal({ring, 1, 1}, pools(most + 1, 10, span)),
                 {"--context: found " + std::to_string(most + 1) + " tokens = " + std::to_string(10 * members + 1) +
                      " pages of 256",
                  "at most " + std::to_string(10 * members) + " pages: " + std::to_string(members) + " ring member",
                  "x 10 pages of " + std::to_string(kPage) + " bytes", "lower --context to " + std::to_string(most)});
  }
  // A context that nobody asked for is only as long as there is room.
  EXPECT_NO_THROW(check_start(big(), {}, with([](EngineSettings& s) { s.kv_bytes_per_rank = kPage; }), kHost));
  expect_parts(refusal({}, [](EngineSettings& s) { s.kv_bytes_per_rank = kPage - 1; }),
               {"KV memory", "at least " + std::to_string(kPage) + " bytes (one page)"});
  // Nor does half of what is free hold it.
  const HostShare poor{"host-a", 2, {80 * kPage, "MemAvailable"}};
  expect_parts(refusal(
                   {}, [](EngineSettings& s) { s.context_tokens_max = 21 * 256; }, poor),
               {"21 pages of 256", "1 ring member x 20 pages"});
}

TEST(StartChecks, KvMemoryBeyondTheHostIsRefusedForItsRanksTogether) {
  const auto kv = [](std::int64_t bytes) { return [bytes](EngineSettings& s) { s.kv_bytes_per_rank = bytes; }; };
  const std::int64_t half = std::int64_t{32} << 30;
  EXPECT_NO_THROW(check_start(big(), {2, 1, 1}, with(kv(half)), kHost));
  expect_parts(
      refusal({2, 1, 1}, kv(half + 1)),
      {"--kv-memory: found " + std::to_string(half + 1) + " bytes for each of 2 ranks on host host-a",
       "at most " + std::to_string(half) + " bytes: " + std::to_string(2 * half) + " are free there (MemAvailable)"});
  expect_parts(refusal({2, 1, 1}, kv(std::numeric_limits<std::int64_t>::max())),
               {"found 9223372036854775807 bytes for each of 2 ranks"});
}

TEST(KvPages, AreNeverMoreThanTheSequencesCouldFill) {
  const auto settings = with(
      [](EngineSettings& s) { s.context_tokens_max = 1000, s.sequences_max = 3, s.kv_bytes_per_rank = 100 * kPage; });
  EXPECT_EQ(kv_pages(big(), {}, settings, kHost), 12);
  EXPECT_EQ(kv_pages(big(), {}, {}, {"a", 2, {40 * kPage, "MemAvailable"}}), 10);  // half of a rank's share
}

}  // namespace
}  // namespace zoetrope::test
