// Attention at the shapes of the 235B-A22B (64 query heads on 4 KV heads of 128), of smaller text models and of the
// vision towers. Prefill counts the causal work only. Decode is bound by reading where few query heads share a KV head
// and by arithmetic where 16 do: both fractions are printed.
#include <fmt/format.h>

#include <cstdlib>
#include <memory>
#include <numeric>

#include "kernels/attention.h"
#include "kernels/benchmark.h"
#include "kernels/large_memory.h"
#include "monitoring/check.h"

namespace zoetrope {
namespace {

std::vector<float> numbers(std::int64_t count) {
  std::vector<float> all(static_cast<std::size_t>(count));
  std::uint32_t state = 1;
  for (float& x : all) {
    state = state * 1664525U + 1013904223U;
    x = round_bf16(static_cast<float>(state >> 8) * 0x1p-23F - 1.0F);
  }
  return all;
}

struct Heads {
  const char* model;
  int heads;
  int kv_heads;
  int head_dim;
};

// Sequences of one length, each with pages of its own; the last rows of each are the queries.
class Sequences {
 public:
  Sequences(const Compute& compute, const Heads& heads, std::int64_t sequences, std::int64_t context, std::int64_t rows)
      : compute_(compute),
        layout_{heads.kv_heads, heads.head_dim, compute.precision},
        pages_each_(context / kPageTokens),
        store_(sequences * pages_each_, layout_),
        q_(numbers(sequences * rows * heads.heads * heads.head_dim)),
        out_(q_.size()),
        positions_(static_cast<std::size_t>(rows)) {
    std::iota(positions_.begin(), positions_.end(), context - rows);
    fill(sequences * pages_each_);
    const std::int64_t columns = std::int64_t{heads.heads} * heads.head_dim;
    for (std::int64_t s = 0; s < sequences; ++s) {
      for (std::int64_t p = 0; p < pages_each_; ++p) {
        refs_.push_back({.page_id = s * pages_each_ + p,
                         .first_position = p * kPageTokens,
                         .page_class = static_cast<int>(p % kPageClasses),
                         .valid_rows = kPageTokens});
      }
    }
    for (std::int64_t s = 0; s < sequences; ++s) {
      jobs_.push_back(
          {Rows<const float>(q_.data() + s * rows * columns, rows, columns), positions_,
           std::span(refs_).subspan(static_cast<std::size_t>(s * pages_each_), static_cast<std::size_t>(pages_each_)),
           Rows<float>(out_.data() + s * rows * columns, rows, columns)});
    }
    for (const std::int64_t position : positions_) {
      flops_ += 4.0 * static_cast<double>((position + 1) * columns * sequences);
    }
    bytes_ = static_cast<double>(sequences * pages_each_) * static_cast<double>(layout_.page_bytes());
  }

  void run() { attention(compute_, layout_, store_.pages(), jobs_); }
  double flops() const { return flops_; }
  double bytes() const { return bytes_; }

 private:
  class Store {
   public:
    Store(std::int64_t pages, const KvLayout& layout)
        : page_bytes_(layout.page_bytes()), memory_(large_memory(static_cast<std::size_t>(pages) * page_bytes_)) {}
    KvPages pages() const { return {memory_.get(), page_bytes_}; }

   private:
    std::size_t page_bytes_;
    LargeMemory memory_;
  };

  void fill(std::int64_t pages) {
    const std::int64_t columns = std::int64_t{layout_.kv_heads} * layout_.head_dim;
    const std::vector<float> kv = numbers(kPageTokens * columns);
    std::vector<KvSlot> slots(kPageTokens);
    for (std::int64_t p = 0; p < pages; ++p) {
      for (int row = 0; row < kPageTokens; ++row) {
        slots[static_cast<std::size_t>(row)] = {p, row};
      }
      append_kv(compute_, layout_, store_.pages(), {kv.data(), kPageTokens, columns}, {kv.data(), kPageTokens, columns},
                slots);
    }
  }

  const Compute& compute_;
  KvLayout layout_;
  std::int64_t pages_each_;
  Store store_;
  std::vector<float> q_, out_;
  std::vector<std::int64_t> positions_;
  std::vector<PageRef> refs_;
  std::vector<AttentionJob> jobs_;
  double flops_ = 0;
  double bytes_ = 0;
};

BenchCase sequence_case(const char* op, const Compute& compute, const Heads& heads, std::int64_t sequences,
                        std::int64_t context, std::int64_t rows) {
  auto state = std::make_shared<Sequences>(compute, heads, sequences, context, rows);
  BenchCase result{.op = op,
                   .shape = fmt::format("{} {}/{}x{} {}{}k", heads.model, heads.heads, heads.kv_heads, heads.head_dim,
                                        sequences > 1 ? fmt::format("{}x", sequences) : "", context / 1024),
                   .m = sequences * rows,
                   .flops = state->flops(),
                   .bytes = state->bytes(),
                   .run = {}};
  result.run = [state](std::int64_t) { state->run(); };
  return result;
}

// `frames` segments of `rows` rows, as the vision tower asks for them.
BenchCase segment_case(const Compute& compute, int heads, int head_dim, std::int64_t frames, std::int64_t rows) {
  struct State {
    std::vector<float> qkv, out;
    std::vector<std::int64_t> segments;
  };
  const std::int64_t columns = std::int64_t{heads} * head_dim;
  auto state = std::make_shared<State>(State{numbers(3 * frames * rows * columns),
                                             std::vector<float>(static_cast<std::size_t>(frames * rows * columns)),
                                             std::vector<std::int64_t>(static_cast<std::size_t>(frames), rows)});
  BenchCase result{.op = "segments",
                   .shape = fmt::format("vision {}x{} {} of {}", heads, head_dim, frames, rows),
                   .m = frames * rows,
                   .flops = 4.0 * static_cast<double>(frames * rows * rows * columns),
                   .bytes = 3.0 * static_cast<double>(frames * rows * columns * std::int64_t{sizeof(float)}),
                   .run = {}};
  result.run = [state, &compute, heads, columns, count = frames * rows](std::int64_t) {
    const auto view = [&](int part) {
      return Rows<const float>(state->qkv.data() + part * columns, count, columns, 3 * columns);
    };
    segment_attention(compute, heads, view(0), view(1), view(2), state->segments, {state->out.data(), count, columns});
  };
  return result;
}

}  // namespace

std::vector<BenchRow> bench_attention(const Compute& compute, const BenchSettings& settings) {
  const std::int64_t cut = settings.quick ? 16 : 1;  // of contexts
  const Heads whole{"235B", 64, 4, 128};
  const Heads one_of_four{"235B/4", 16, 1, 128};  // one KV head's share of the layer
  const Heads medium{"30B", 32, 4, 128};
  const Heads small{"2B", 16, 8, 128};
  std::vector<BenchCase> cases;
  cases.push_back(sequence_case("prefill", compute, one_of_four, 1, 8192 / (settings.quick ? 8 : 1), 96));
  cases.push_back(sequence_case("prefill", compute, small, 1, 2048 / (settings.quick ? 4 : 1), 96));
  cases.push_back(sequence_case("decode", compute, whole, 1, 131072 / cut, 1));
  cases.push_back(sequence_case("decode", compute, medium, 1, 65536 / cut, 1));
  cases.push_back(sequence_case("decode", compute, medium, settings.quick ? 2 : 8, 1024, 1));
  cases.push_back(sequence_case("decode", compute, small, 1, 32768 / cut, 1));
  cases.push_back(segment_case(compute, 16, 72, 1, settings.quick ? 256 : 1024));
  cases.push_back(segment_case(compute, 16, 64, 4, settings.quick ? 100 : 336));
  return bench_cases(compute, settings, cases);
}

}  // namespace zoetrope
