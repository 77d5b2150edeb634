// Units decoded on threads of their own are those that a reader gets one after another, however they are shared out.
#include "runtime/engine/decode_ahead.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "monitoring/error.h"
#include "runtime/media/patches.h"
#include "runtime/prompt/frame_table_cache.h"
#include "tests/source_folder.h"

namespace zoetrope {
namespace {

using namespace std::chrono_literals;

constexpr std::int32_t kPairs = 12;

// Every fourth frame of a sample film, small.
Medium film(const std::string& file) {
  Medium medium;
  medium.kind = Medium::Kind::kFilm;
  medium.sources = {MediaSource::file(test::source_folder() / "models" / "samples" / file)};
  medium.resized_height = 64;
  medium.resized_width = 96;
  medium.grid = {kPairs, 4, 6};
  medium.report.source_frames = std::ssize(frame_table_of(medium.sources[0])->frames);
  medium.report.source_height = 360;
  medium.report.source_width = 640;
  for (std::int64_t frame = 0; frame < 2 * kPairs; ++frame) {
    medium.frames.push_back(4 * frame);
  }
  return medium;
}

DecodeAhead::Media media_of(std::vector<Medium> media) {
  return std::make_shared<const std::vector<Medium>>(std::move(media));
}

std::vector<std::vector<std::uint8_t>> read_all(const Medium& medium) {
  UnitReader reader;
  std::vector<std::vector<std::uint8_t>> units;
  for (std::int32_t pair = 0; pair < kPairs; ++pair) {
    units.emplace_back(static_cast<std::size_t>(medium.grid.h * medium.grid.w * kPatchColumns));
    reader.read(medium, pair, units.back());
  }
  return units;
}

VisualUnit unit(std::int32_t medium, std::int32_t pair, bool clean) { return {medium, pair, 0, 6, clean ? 1 : 0}; }

TEST(DecodeAhead, GivesWhatAReaderGivesHoweverTheUnitsAreSharedOut) {
  const auto media = media_of({film("film-20s.mp4"), film("film-30s.mp4")});
  const auto first = read_all((*media)[0]), second = read_all((*media)[1]);
  EXPECT_NE(first[0], first[kPairs - 1]);
  for (const int decoders : {1, 2, 4}) {
    for (const std::int32_t clean :
         {1, 3, 100}) {  // as if every so many units started clean: pixels cannot depend on it
      DecodeAhead ahead(decoders);
      for (std::int32_t at = 0; at < 2 * kPairs; ++at) {
        ahead.add(RequestId{1}, media, at, unit(at / kPairs, at % kPairs, at % clean == 0));
        if (at % 5 == 4) {  // announced piece by piece, as stretches are
          ahead.add(RequestId{2}, media, at / 5, unit(1, at / 5, false));
        }
      }
      for (std::int32_t at = 0; at < 4; ++at) {
        EXPECT_EQ(ahead.take(RequestId{2}, at), second[static_cast<std::size_t>(at)]) << at;
      }
      for (std::int32_t at = 0; at < 2 * kPairs; ++at) {
        const auto& expected = (at < kPairs ? first : second)[static_cast<std::size_t>(at % kPairs)];
        EXPECT_EQ(ahead.take(RequestId{1}, at), expected) << decoders << " decoders, unit " << at;
      }
      const DecodeAhead::Times times = ahead.take_times();
      EXPECT_GT(times.cpu_seconds, 0);
      EXPECT_GT(times.busy_seconds, 0);
      EXPECT_EQ(ahead.take_times().cpu_seconds, 0) << "counted once";
    }
  }
}

TEST(DecodeAhead, HoldsOnlyWhatWasAnnouncedAndNotTaken) {
  const auto media = media_of({film("film-20s.mp4")});
  DecodeAhead ahead(2);
  const std::int64_t bytes = 4 * 6 * kPatchColumns;
  for (std::int32_t at = 0; at < kPairs; at += 2) {
    ahead.add(RequestId{1}, media, at, unit(0, at, false));
    ahead.add(RequestId{1}, media, at + 1, unit(0, at + 1, false));
    ahead.take(RequestId{1}, at);
    ahead.take(RequestId{1}, at + 1);
  }
  EXPECT_GE(ahead.held_bytes_max(), bytes);
  EXPECT_LE(ahead.held_bytes_max(), 2 * bytes);
}

// Memory that is given back serves units that come, of films with frames of two sizes, and only what is announced.
// Two units of each film wait while the third is announced, whether decoders are behind or ahead of who takes.
TEST(DecodeAhead, MemoryIsUsedAgainForWhatIsAnnounced) {
  Medium wide = film("film-30s.mp4");
  wide.resized_width = 128;
  wide.grid = {kPairs, 4, 8};
  const auto media = media_of({film("film-20s.mp4"), wide});
  const auto narrow_units = read_all((*media)[0]), wide_units = read_all((*media)[1]);
  constexpr std::int64_t kThreeOfEach = 3 * (4 * 6 + 4 * 8) * kPatchColumns;
  for (const bool decoders_first : {false, true}) {
    DecodeAhead ahead(2);
    const auto add = [&](std::int32_t pair) {
      ahead.add(RequestId{1}, media, pair, unit(0, pair, pair % 3 == 0));
      ahead.add(RequestId{2}, media, pair, unit(1, pair, pair % 4 == 0));
    };
    std::int64_t spare = 0;
    add(0);
    add(1);
    for (std::int32_t pair = 0; pair < kPairs; ++pair) {
      if (pair + 2 < kPairs) {
        add(pair + 2);
      }
      for (std::size_t decoded = ahead.decoded().size(); decoders_first && !ahead.pending().empty();
           decoded = ahead.decoded().size()) {
        ahead.wait_for_more(decoded, std::chrono::steady_clock::now() + 1s);
      }
      for (const std::uint64_t id : {1, 2}) {
        std::vector<std::uint8_t> patches = ahead.take(RequestId{id}, pair);
        EXPECT_EQ(patches, (id == 1 ? narrow_units : wide_units)[static_cast<std::size_t>(pair)]) << id << " " << pair;
        ahead.give_back(std::move(patches));
        spare = std::max(spare, ahead.spare_bytes());
      }
    }
    if (decoders_first) {  // all but the first three of each, and the last pairs of which nothing more is announced
      EXPECT_EQ(ahead.reused_units(), 2 * (kPairs - 3));
    }
    EXPECT_GT(spare, 0);
    EXPECT_LE(spare, kThreeOfEach) << "three units of each film wait at most";
    EXPECT_EQ(ahead.spare_bytes(), 0) << "nothing waits any more";
    for (std::int32_t pair = 0; pair < kPairs; ++pair) {
      ahead.add(RequestId{3}, media, pair, unit(0, pair, false));
      ahead.add(RequestId{4}, media, pair, unit(1, pair, false));
    }
    ahead.give_back(ahead.take(RequestId{3}, 0));
    ahead.drop(RequestId{3});
    ahead.drop(RequestId{4});
    EXPECT_EQ(ahead.spare_bytes(), 0) << "who needed it is gone";
    for (int tries = 0; tries < 5000 && ahead.take_times().busy_seconds > 0; ++tries) {
      std::this_thread::sleep_for(1ms);  // decoders stop between two packets
    }
    const std::int64_t reused = ahead.reused_units();
    for (std::int32_t pair = 0; pair < 3; ++pair) {
      ahead.add(RequestId{5}, media, pair, unit(0, pair, false));
    }
    for (int tries = 0; tries < 5000 && ahead.decoded().size() < 3; ++tries) {
      ahead.wait_for_more(ahead.decoded().size(), std::chrono::steady_clock::now() + 1ms);
    }
    ahead.give_back(ahead.take(RequestId{5}, 0));
    ahead.add(RequestId{5}, media, 3, unit(0, 3, false));
    EXPECT_EQ(ahead.take(RequestId{5}, 3), narrow_units[3]);
    EXPECT_EQ(ahead.reused_units(), reused + 1) << "those that were dropped while they were decoded count no more";
  }
}

TEST(DecodeAhead, AFilmThatCannotBeReadFailsItsRequestOnly) {
  Medium missing = film("film-20s.mp4");
  missing.sources = {MediaSource::file("/nowhere/missing.mp4")};
  const auto media = media_of({film("film-20s.mp4"), missing});
  DecodeAhead ahead(2);
  for (std::int32_t at = 0; at < 3; ++at) {
    ahead.add(RequestId{1}, media, at, unit(1, at, false));
    ahead.add(RequestId{2}, media, at, unit(0, at, false));
  }
  for (std::int32_t at = 0; at < 3; ++at) {
    try {
      ahead.take(RequestId{1}, at);
      FAIL() << "a film that is not there";
    } catch (const Error& error) {
      EXPECT_EQ(error.radius(), Radius::kRequest);
      EXPECT_NE(std::string(error.what()).find("missing.mp4"), std::string::npos) << error.what();
    }
    EXPECT_EQ(ahead.take(RequestId{2}, at).size(), static_cast<std::size_t>(4 * 6 * kPatchColumns));
  }
}

TEST(DecodeAhead, WhatIsDroppedIsNotWaitedFor) {
  const auto media = media_of({film("film-20s.mp4")});
  const auto expected = read_all((*media)[0]);
  DecodeAhead ahead(1);
  for (std::uint64_t id = 1; id <= 40; ++id) {
    for (std::int32_t at = 0; at < kPairs; ++at) {
      ahead.add(RequestId{id}, media, at, unit(0, at, at == 0));
    }
  }
  EXPECT_EQ(ahead.take(RequestId{1}, 0), expected[0]);
  for (std::uint64_t id = 1; id < 40; ++id) {
    ahead.drop(RequestId{id});
  }
  ahead.drop(RequestId{99});  // of which nothing was announced here
  for (std::int32_t at = 0; at < kPairs; ++at) {
    EXPECT_EQ(ahead.take(RequestId{40}, at), expected[static_cast<std::size_t>(at)]);
  }
}

// A rank that ends does not wait for frames that nobody will look at.
TEST(DecodeAhead, StopsInTheMiddle) {
  const auto media = media_of({film("film-120s.mp4")});
  const auto started = std::chrono::steady_clock::now();
  {
    DecodeAhead ahead(2);
    for (std::uint64_t id = 1; id <= 500; ++id) {
      for (std::int32_t at = 0; at < kPairs; ++at) {
        ahead.add(RequestId{id}, media, at, unit(0, at, at == 0));
      }
    }
  }
  EXPECT_LT(std::chrono::steady_clock::now() - started, 10s) << "500 readings of a film take longer";
}

// What is pending is said until it is there, whoever drives the decoders; units may be taken in any order.
TEST(DecodeAhead, SaysWhatIsPending) {
  const auto media = media_of({film("film-20s.mp4")});
  const auto expected = read_all((*media)[0]);
  DecodeAhead ahead(2);
  EXPECT_TRUE(ahead.pending().empty());
  for (int round = 0; round < 4; ++round) {
    for (std::int32_t at = 0; at < kPairs; ++at) {
      ahead.add(RequestId{1}, media, round * kPairs + at, unit(0, at, at % 5 == 0));
      ahead.add(RequestId{2}, media, round * kPairs + at, unit(0, at, true));
      ahead.hurry((at + round) % 2 == 0);
    }
    const auto first = ahead.pending();
    for (const PendingFrames& frames : first) {
      EXPECT_GE(frames.unit, round * kPairs);
    }
    const auto deadline = std::chrono::steady_clock::now() + 60s;
    for (std::size_t there = 0; there < 2 * kPairs; there = ahead.decoded().size()) {
      ahead.wait_for_more(there, deadline);
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "nothing came for a minute";
    }
    EXPECT_TRUE(ahead.pending().empty());
    ahead.wait_for_more(2 * kPairs, std::chrono::steady_clock::now() + 5ms);  // no more will come
    EXPECT_EQ(ahead.decoded().size(), 2U * kPairs);
    EXPECT_EQ(ahead.decoded()[0].unit, round * kPairs);
    for (std::int32_t at = kPairs; at-- > 0;) {
      EXPECT_EQ(ahead.take(RequestId{1}, round * kPairs + at), expected[static_cast<std::size_t>(at)]);
      EXPECT_EQ(ahead.take(RequestId{2}, round * kPairs + at), expected[static_cast<std::size_t>(at)]);
    }
  }
}

TEST(DecodeAheadDeathTest, AUnitIsTakenOnce) {
  const auto media = media_of({film("film-20s.mp4")});
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        DecodeAhead ahead(1);
        ahead.add(RequestId{1}, media, 0, unit(0, 0, true));
        ahead.take(RequestId{1}, 0);
        ahead.take(RequestId{1}, 0);
      },
      "or was taken");
  EXPECT_DEATH(
      {
        DecodeAhead ahead(1);
        ahead.take(RequestId{1}, 0);
      },
      "not announced");
}

}  // namespace
}  // namespace zoetrope
