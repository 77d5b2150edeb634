// What every rank does in one step. Made by the planner on the leader, executed by all; followers never decide.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "parallel/span.h"
#include "scheduler/request.h"

namespace zoetrope {

// A sequence that enters: its Prompt travels beside the plan. K and V of its first `cached_tokens` tokens are there: in
// `pages`, the first of its block table. Where they end inside a page, that page is a copy of these rows of
// `copied_page`, which lies on the same member, and is made when the sequence enters. Sequences enter in order.
struct SequenceStart {
  RequestId id{};
  Span span;
  std::int64_t cached_tokens = 0;
  std::vector<std::int32_t> pages = {};
  std::int32_t copied_page = -1;
  bool operator==(const SequenceStart&) const = default;
};

// A running sequence that is shortened to `tokens`: its later rows and the pages beyond them are forgotten.
struct Truncation {
  RequestId id{};
  std::int64_t tokens = 0;
  bool operator==(const Truncation&) const = default;
};

// A sequence whose span grows to `span`, from R members to R' (2R, or more where 2R would not do): page p moves from
// slot p mod R to slot p mod R', if that is another one, and has a new id there: `pages` names those that move, in
// ascending p. Growths happen in order, after the starts and before the chunks; the pages of the last one may travel
// while the chunks are computed, as long as no chunk is given the place of one of them.
struct Growth {
  RequestId id{};
  Span span;
  std::vector<std::int32_t> pages;
  bool operator==(const Growth&) const = default;
};

// Rows of one sequence that are computed in this step. New pages are named here; page i of the sequence is the i-th id
// ever handed to it (block table), each valid on the member that Span::owner(i) names.
struct Chunk {
  RequestId id{};
  std::int64_t first_token = 0;
  std::int64_t tokens = 0;
  std::vector<std::int32_t> new_pages;
  std::vector<std::int64_t> sampled;       // indices of tokens whose next token is drawn; usually the last or none
  std::vector<std::int32_t>
      drawn_tokens;  // the tokens to compute when they are not part of the prompt (decoding), else empty
  int wave = 0;                            // of the step; chunks lie in ascending order of waves
  bool operator==(const Chunk&) const = default;
};

// A visual unit and the rank that decodes and encodes it.
struct EncodeUnit {
  RequestId id{};
  std::int32_t unit = 0;  // index into the sequence's units
  std::int32_t rank = 0;
  bool operator==(const EncodeUnit&) const = default;
};

// How much the plan wants frames that were named ahead.
enum class FramesWanted : std::uint8_t {
  kInTime,  // decoding takes the cores that arithmetic leaves
  kSoon,    // a sequence stands still until they are there, others go on: decoding gets as much as arithmetic
  kNow,     // nothing can be computed until they are there: ranks encode those that are and wait a while for the rest
};

struct StepPlan {
  std::uint64_t step = 0;
  std::vector<SequenceStart> starts;
  std::vector<Growth> growths;
  // Units that are decoded from now on, in the order in which they will be encoded: every unit is named here once, in
  // the plan that encodes it or an earlier one.
  std::vector<EncodeUnit> ahead;
  std::vector<EncodeUnit> encode;  // whole stretches, in the step that computes the first token of their first unit
  FramesWanted frames = FramesWanted::kInTime;
  std::vector<Chunk> chunks;
  std::vector<Truncation> truncations;  // applied before the chunks
  std::vector<RequestId> releases;      // sequences that are gone: state and pages are freed before the chunks
  bool stop = false;                // the last plan: every rank leaves its loop

  bool operator==(const StepPlan&) const = default;
};

// What a rank says after a step: the first unit of a sequence that it was told to decode and has not decoded yet.
struct PendingFrames {
  RequestId id{};
  std::int32_t unit = 0;
  bool operator==(const PendingFrames&) const = default;
};

// A flat, versioned encoding; decode throws Error(kCluster) on anything malformed.
std::vector<std::byte> encoded(const StepPlan& plan);
StepPlan decoded(std::span<const std::byte> bytes);

}  // namespace zoetrope
