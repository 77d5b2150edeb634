// Qwen3-VL, dense and MoE: the vision tower and the decoder of one rank. A model is loaded once and is then constant;
// all state of sequences lives with the caller (StepInputs, KvCache). Every rank calls encode() and forward() in the
// same order.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/attention.h"
#include "kernels/compute.h"
#include "kernels/rotary.h"
#include "parallel/expert_placement.h"
#include "parallel/ranks.h"
#include "parallel/ring_attention.h"
#include "parallel/ring_memory.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/model/anonymous_memory.h"
#include "runtime/model/stages.h"

namespace zoetrope {

// KV pages of this rank for all layers of the stage: page id -> memory, one region per layer. Pages are zeroed by
// open_page. In memory shared with the ring members of this host where that is wished and can be had.
class KvCache {
 public:
  KvCache(const KvLayout& layout, int layers, std::int32_t pages);
  // Collective over the ring; all members have as many pages and layers.
  KvCache(const KvLayout& layout, int layers, std::int32_t pages, Ranks& ranks, RingTransport transport);
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  const KvLayout& layout() const { return layout_; }
  KvPages layer(int layer) const;
  RingPages ring_layer(int layer) const;  // with the pages of the members that share theirs
  const RingMemory& ring_memory() const { return ring_memory_; }
  void open_page(std::int32_t page);  // zero-filled from now on
  // `to` holds the first `rows` rows of `from` in every layer, and zeros behind them.
  void copy_rows(std::int32_t from, std::int32_t to, int rows);
  static std::size_t bytes_per_page(const KvLayout& layout, int layers);
  // Memory that the first `pages` pages take of this rank's pool: in huge pages where the system gives them.
  std::int64_t resident_bytes(std::int64_t pages) const;

 private:
  KvLayout layout_;
  int layers_ = 0;
  std::int32_t pages_ = 0;
  RingMemory ring_memory_;
  AnonymousMemory memory_;                // without shared memory; only pages that were opened are resident
  std::byte* own_ = nullptr;              // this rank's pool, in one of the two
  std::vector<std::int64_t> first_page_;  // RingPages::first_page
};

class PageMoves;

// Sees activations by name as the goldens call them ("hidden.layer.3", "vision.image.block.0", "router.2.logits"). For
// tests: with an observer on a tp group, rows are gathered first.
using Observer = std::function<void(std::string_view name, Rows<const float> values)>;

// Frames of one size, encoded together: N units of gh x gw patches.
struct VisionBatch {
  Rows<const float> patches;  // [N * gh * gw, 1536], each unit in merge-block order
  int units = 0, gh = 0, gw = 0;
};

// The rows of one sequence in a step.
struct SequenceRows {
  std::int64_t first_row = 0, rows = 0;  // in the step's rows
  std::vector<PageRef> pages = {};       // all pages of the sequence, this step's rows counted as valid
  // A sequence that spans several members, on each of them: `rows` are those that Span::computes deals to it (maybe
  // none) of tokens [first_token, first_token + tokens), `pages` is empty.
  Span span = {};
  std::int64_t first_token = 0, tokens = 0;
  std::vector<std::int32_t> block_table = {};

  bool spans() const { return span.members > 1; }
};

// One step of this rank's ring member; equal on all its tp ranks. Empty when the member has nothing to do (it still
// joins).
struct StepInputs {
  std::vector<std::int32_t> tokens;   // [T]
  std::vector<Position> positions;    // [T] on three axes
  std::vector<std::int64_t> indices;  // [T] index inside the own sequence: the causal order
  std::vector<KvSlot> slots;          // [T] where the new K and V rows go; not read for a sequence that spans members
  std::vector<SequenceRows> sequences;
  std::vector<std::int64_t> visual_rows;  // rows whose embedding is replaced, ascending
  // [visual_rows, the stage's feature_columns] of (1 + deepstack) * H: main, then the DeepStack features
  Rows<const float> visual;
  std::vector<std::int64_t> logit_rows;  // rows whose logits are wanted, ascending; none but on the last stage
  // A step may be cut in waves, which flow through the stages of a pipeline: forward() is called once for each.
  std::int64_t next_rows = 0;  // T of the wave behind this one
  bool last_wave = true;
  PageMoves* moves = nullptr;  // pages on their way that spans of this step need; null: none
};

// What a rank has counted of its experts since it was loaded.
struct ExpertCounts {
  int experts = 0;
  std::vector<std::uint64_t> chosen;  // [layers, experts]: own rows that chose the expert
  std::uint64_t answered = 0;         // pairs of a row and an expert that this rank computed

  std::span<std::uint64_t> of(int layer) {
    return std::span(chosen).subspan(static_cast<std::size_t>(layer * experts), static_cast<std::size_t>(experts));
  }
};

class Model {
 public:
  struct Options {
    Compute compute;
    Observer observer;                              // may be empty
    std::function<void(double fraction)> progress;  // loading, 0..1; may be empty
    RingPass ring_pass = RingPass::kLeastTime;      // of sequences that span members
    // T of a wave at most: stages of one host hand so many rows over in memory that both see; 0: as messages.
    std::int64_t shared_rows_max = 0;
    ExpertPlacement experts = {};  // over the ranks of a stage; no tables: dealt contiguously
  };

  // Reads this rank's slices of the checkpoint and packs them (dense and vision weights once per host). Collective.
  static std::unique_ptr<Model> load(const Checkpoint& checkpoint, Ranks& ranks, Options options);
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  virtual KvLayout kv_layout() const = 0;                   // of this rank
  virtual const RingRates& ring_rates() const = 0;          // measured at load; not known of a ring of one
  virtual void set_host_rates(const RingRates& rates) = 0;  // RingAttention::set_host_rates
  virtual const Stage& stage() const = 0;                   // what this rank holds of the model
  int layers() const { return static_cast<int>(stage().layers.count()); }
  virtual int feature_columns() const = 0;  // (1 + deepstack) * H

  // Vision tower, mergers and DeepStack features: out [units * gh * gw / 4, feature_columns()]. Local, no messages.
  virtual void encode(const VisionBatch& batch, Rows<float> out) = 0;

  // One wave through the layers of this stage: the first embeds its tokens, the others wait for the rows of the stage
  // before, the last makes logits. Collective over the stage; every stage is given the same waves in the same order.
  // logits [logit_rows, V] fp32, complete on every tp rank of the member.
  virtual void forward(const StepInputs& inputs, KvCache& cache, Rows<float> logits) = 0;

  virtual double pipe_wait_seconds() const = 0;  // so far, for the rows of the stage before or for room in the next one
  virtual std::size_t resident_bytes() const = 0;  // packed weights of this rank, shared ones counted once per host
  virtual std::int64_t routing_ties() const = 0;   // own rows so far whose choice of experts was decided by a tie
  virtual const ExpertCounts& expert_counts() const = 0;  // of no experts when the model is dense
};

}  // namespace zoetrope
