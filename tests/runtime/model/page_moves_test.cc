#include "runtime/model/page_moves.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "kernels/body.h"
#include "kernels/thread_pool.h"
#include "parallel/collectives.h"
#include "parallel/ranks.h"

namespace zoetrope {
namespace {

constexpr KvLayout kLayout{.kv_heads = 2, .head_dim = 32, .precision = Precision::kBf16};
constexpr int kLayers = 5;
constexpr std::int32_t kPages = 8;

int value_of(int member, int layer, std::int32_t page) { return 1 + (member * kLayers + layer) * kPages + page; }

// Every byte of a page, or -1 where they differ.
int value_in(const KvCache& cache, int layer, std::int32_t page) {
  const std::byte* bytes = cache.layer(layer).page(page);
  for (std::size_t i = 0; i < kLayout.page_bytes(); ++i) {
    if (bytes[i] != bytes[0]) {
      return -1;
    }
  }
  return static_cast<int>(bytes[0]);
}

struct Member {
  Member(Ranks& ranks, RingTransport transport)
      : own(ranks.ring->rank()),
        cache(kLayout, kLayers, kPages, ranks, transport),
        moves(cache, kLayers, *ranks.ring, {.body = &body(best_body()), .pool = &pool, .precision = Precision::kBf16}) {
    for (int layer = 0; layer < kLayers; ++layer) {
      for (std::int32_t page = 0; page < kPages; ++page) {
        std::memset(cache.layer(layer).page(page), value_of(own, layer, page), kLayout.page_bytes());
      }
    }
    barrier(*ranks.ring, "pages are filled");
  }
  // Targets of this member hold in `layer` what the sources held.
  void expect_arrived(const std::vector<PageMove>& all, int layer) const {
    for (const PageMove& move : all) {
      if (move.to == own) {
        EXPECT_EQ(value_in(cache, layer, move.target), value_of(move.from, layer, move.source))
            << "layer " << layer << " member " << own;
      }
    }
  }

  ThreadPool pool{2};
  int own;
  KvCache cache;
  PageMoves moves;
};

// From two members to four, and from one to four at once.
const std::vector<PageMove> kTwoToFour{{.from = 0, .to = 2, .source = 1, .target = 5},
                                       {.from = 1, .to = 3, .source = 0, .target = 2},
                                       {.from = 0, .to = 2, .source = 3, .target = 0, .written = true}};
const std::vector<PageMove> kOneToFour{{.from = 0, .to = 1, .source = 7, .target = 7},
                                       {.from = 0, .to = 2, .source = 6, .target = 1},
                                       {.from = 0, .to = 3, .source = 0, .target = 0}};

TEST(PageMoves, EveryLayerHasItsPagesWhenItsTurnComes) {
  for (const RingTransport transport : {RingTransport::kMessages, RingTransport::kShared}) {
    for (const bool by_messages : {false, true}) {
      for (const auto& moves : {kTwoToFour, kOneToFour, std::vector<PageMove>{}}) {
        run_ranks({.ring = 4}, [&](Ranks& ranks) {
          Member member(ranks, transport);
          member.moves.begin({.members = 4, .first_member = 0, .ring = 4}, moves, by_messages);
          EXPECT_EQ(member.moves.between() != nullptr,
                    !moves.empty() && (by_messages || transport == RingTransport::kMessages));
          for (int layer = 0; layer < kLayers; ++layer) {
            member.moves.poll();
            member.moves.arrive(layer);
            member.moves.arrive(layer);  // of another wave
            member.expect_arrived(moves, layer);
          }
          member.moves.finish();
          for (std::int32_t page = 0; page < kPages; ++page) {  // nothing else has changed
            const bool target = std::any_of(moves.begin(), moves.end(), [&](const PageMove& move) {
              return move.to == member.own && move.target == page;
            });
            EXPECT_TRUE(target || value_in(member.cache, kLayers - 1, page) == value_of(member.own, kLayers - 1, page));
          }
          const std::uint64_t given = static_cast<std::uint64_t>(
              std::count_if(moves.begin(), moves.end(), [&](const PageMove& move) { return move.from == member.own; }));
          for (const TrafficEntry& entry : ranks.ring->book().entries()) {
            if (entry.what == "pages of a span that grows") {
              EXPECT_EQ(entry.sent.bytes, given * kLayers * kLayout.page_bytes());
            }
          }
        });
      }
    }
  }
}

// A step without chunks: no layer asks. And one growth after the other.
TEST(PageMoves, FinishBringsWhatNoLayerAskedFor) {
  for (const RingTransport transport : {RingTransport::kMessages, RingTransport::kShared}) {
    run_ranks({.ring = 4}, [&](Ranks& ranks) {
      Member member(ranks, transport);
      const Span span{.members = 4, .first_member = 0, .ring = 4};
      member.moves.begin(span, kTwoToFour, false);
      member.moves.arrive(0);
      member.moves.finish();
      for (int layer = 0; layer < kLayers; ++layer) {
        member.expect_arrived(kTwoToFour, layer);
      }
      barrier(*ranks.ring, "the step is over");
      const std::vector<PageMove> more{{.from = 2, .to = 3, .source = 5, .target = 6}};
      member.moves.begin(span, more, false);
      member.moves.finish();
      for (int layer = 0; member.own == 3 && layer < kLayers; ++layer) {
        EXPECT_EQ(value_in(member.cache, layer, 6), value_of(0, layer, 1));
      }
    });
  }
}

// Nobody waits when pages begin to travel, nor does the giver in its layers: it goes through all of them before the
// taker begins.
TEST(PageMoves, TheStepGoesOnWhilePagesTravel) {
  std::atomic<bool> given{false};
  run_ranks({.ring = 2}, [&](Ranks& ranks) {
    Member member(ranks, RingTransport::kMessages);
    const std::vector<PageMove> moves{{.from = 0, .to = 1, .source = 3, .target = 4}};
    while (member.own == 1 && !given) {
    }
    member.moves.begin({.members = 2, .first_member = 0, .ring = 2}, moves, false);
    for (int layer = 0; layer < kLayers; ++layer) {
      member.moves.arrive(layer);
      member.expect_arrived(moves, layer);
    }
    given = true;
    member.moves.finish();
  });
}

// The mutant: a layer that does not wait for its pages reads what was there before.
TEST(PageMoves, ALayerThatDoesNotWaitSeesOldPages) {
  run_ranks({.ring = 2}, [](Ranks& ranks) {
    Member member(ranks, RingTransport::kShared);
    const std::vector<PageMove> moves{{.from = 0, .to = 1, .source = 3, .target = 4}};
    member.moves.begin({.members = 2, .first_member = 0, .ring = 2}, moves, false);
    if (member.own == 1) {
      EXPECT_EQ(value_in(member.cache, 0, 4), value_of(1, 0, 4));
    }
    member.moves.finish();
  });
}

TEST(PageMoves, TheFirstLayerTravelsAloneThenTwoAtATime) {
  run_ranks({.ring = 2}, [](Ranks& ranks) {
    Member member(ranks, RingTransport::kMessages);
    member.moves.begin({.members = 2, .first_member = 0, .ring = 2}, {{.from = 0, .to = 1, .source = 3, .target = 4}},
                       false);
    const std::vector<int> expected{1, 2, 2, 2, 1};
    for (int layer = 0; layer < kLayers; ++layer) {
      EXPECT_TRUE(member.own == 0 || member.moves.layers_under_way() == expected[static_cast<std::size_t>(layer)])
          << layer;
      member.moves.arrive(layer);
    }
    member.moves.finish();
    EXPECT_EQ(member.moves.layers_under_way(), 0);
  });
}

}  // namespace
}  // namespace zoetrope
