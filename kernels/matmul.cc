// Contracts of the matrix products and the plan of their work: rows in blocks, blocks packed once, then one flat list
// of (block, panels) pieces drawn from one counter.
#include "kernels/matmul.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/body.h"
#include "kernels/large_memory.h"
#include "monitoring/check.h"

namespace zoetrope {
namespace {

// Packed rows that wait for their products at one time: bounds the scratch of long prompts.
constexpr std::int64_t kWaveBytes = std::int64_t{48} << 20;
// Weights of one piece at least, where there are pieces enough for every thread: adjacent panels stream as one. More
// where rows are few and memory is what they wait for.
constexpr std::int64_t kPieceBytes = 128 << 10;
constexpr std::int64_t kStreamedPieceBytes = 768 << 10;
constexpr std::int64_t kPiecesPerThread = 8;
// Fewer values than this are packed by the caller alone: waking others would take longer.
constexpr std::int64_t kPackAlone = 4096;

// Memory that grows and stays.
class Scratch {
 public:
  std::byte* at_least(std::size_t bytes) {
    if (bytes > bytes_) {
      memory_.reset();
      bytes_ = 0;
      memory_ = large_memory(bytes);
      bytes_ = bytes;
    }
    return memory_.get();
  }

 private:
  LargeMemory memory_;
  std::size_t bytes_ = 0;
};

// One matrix times some rows of x.
struct Product {
  const PackedMatrix* w = nullptr;
  const float* x = nullptr;
  std::int64_t x_stride = 0;
  const std::int32_t* row_index = nullptr;  // rows of x, or null: consecutive rows
  std::int64_t rows = 0;
  const float* bias = nullptr;
  float* out = nullptr;
  std::int64_t out_stride = 0;
  bool round_output = false;

  bool gated() const { return w->order == PanelOrder::kGated; }
  std::int64_t panels() const { return div_ceil<std::int64_t>(w->n, kPanelColumns); }
  std::int64_t slice_inputs() const { return w->k / w->slices; }
  std::int64_t pair_bytes() const { return w->type == WeightType::kBf16 ? 128 : 64; }
  std::int64_t panel_bytes() const { return (slice_inputs() + 1) / 2 * pair_bytes(); }  // in one slice
};

// Some rows of one product: what is packed together and then multiplied panel by panel.
struct Block {
  const Product* product = nullptr;
  std::int64_t first_row = 0;
  int rows = 0;
  std::byte* x = nullptr;
  std::int64_t chunk = 1;        // panels of one piece
  std::int64_t first_piece = 0;  // in the wave's flat list of (block, chunk)
  std::int64_t first_tile = 0;   // in the wave's flat list of (block, tile)
};

// What a calling thread keeps between products.
struct Workspace {
  Scratch packed;
  Scratch sums;
  std::vector<Product> products;
  std::vector<Block> blocks;
};

Workspace& workspace() {
  thread_local Workspace mine;
  return mine;
}

// The block of a flat list that an index falls into.
const Block& block_at(const std::vector<Block>& blocks, std::int64_t Block::*first, std::int64_t index) {
  const auto after = std::upper_bound(blocks.begin(), blocks.end(), index,
                                      [=](std::int64_t value, const Block& block) { return value < block.*first; });
  return *std::prev(after);
}

class ProductRun {
 public:
  ProductRun(const Compute& compute, Workspace& work)
      : compute_(compute), body_(compute.body->matmul), work_(work), blocks_(work.blocks) {
    sums_ = reinterpret_cast<float*>(work_.sums.at_least(sizeof(float) * kPanelScratchFloats *
                                                         static_cast<std::size_t>(compute.pool->threads())));
  }

  // All products, as many blocks of rows at a time as kWaveBytes hold.
  void run(std::span<const Product> products) {
    blocks_.clear();
    std::int64_t bytes = 0;
    for (const Product& product : products) {
      const std::int64_t count = div_ceil<std::int64_t>(product.rows, rows_of_block(product));
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t first = product.rows * i / count;
        const int rows = static_cast<int>(product.rows * (i + 1) / count - first);
        const std::int64_t block_bytes = round_up<std::int64_t>(rows * row_bytes(product), 64);
        if (bytes > 0 && bytes + block_bytes > kWaveBytes) {
          run_wave(bytes);
          blocks_.clear();
          bytes = 0;
        }
        blocks_.push_back({.product = &product, .first_row = first, .rows = rows});
        bytes += block_bytes;
      }
    }
    if (bytes > 0) {
      run_wave(bytes);
    }
  }

 private:
  std::int64_t row_bytes(const Product& product) const {
    return padded_inputs(product.w->k, product.w->slices) * (body_.packs_pairs && compute_.rounds() ? 2 : 4);
  }

  std::int64_t rows_of_block(const Product& product) const {
    return std::clamp<std::int64_t>(body_.block_bytes / row_bytes(product), body_.tile_rows, kRowBlock);
  }

  void run_wave(std::int64_t bytes) {
    place_blocks(work_.packed.at_least(static_cast<std::size_t>(bytes)));
    if (values_ <= kPackAlone) {
      for (std::int64_t tile = 0; tile < tiles_; ++tile) {
        pack_tile(tile);
      }
    } else {
      compute_.pool->parallel_for(tiles_, [this](std::int64_t tile, int) { pack_tile(tile); });
    }
    compute_.pool->parallel_for(pieces_, [this](std::int64_t piece, int member) { multiply_piece(piece, member); });
  }

  void place_blocks(std::byte* packed) {
    std::int64_t weight_bytes = 0;
    for (const Block& block : blocks_) {
      weight_bytes += block.product->panels() * block.product->panel_bytes() * block.product->w->slices;
    }
    const int threads = compute_.pool->threads();
    const std::int64_t share = threads == 1 ? weight_bytes : weight_bytes / (kPiecesPerThread * threads);
    tiles_ = pieces_ = values_ = 0;
    for (Block& block : blocks_) {
      const Product& product = *block.product;
      block.x = packed;
      packed += round_up<std::int64_t>(block.rows * row_bytes(product), 64);
      const std::int64_t piece_bytes =
          std::min(block.rows <= body_.tile_rows ? kStreamedPieceBytes : kPieceBytes, share);
      block.chunk = std::max<std::int64_t>(1, piece_bytes / (product.panel_bytes() * product.w->slices));
      block.first_tile = tiles_;
      block.first_piece = pieces_;
      tiles_ += RowTiles(block.rows, body_.tile_rows).count;
      pieces_ += div_ceil(product.panels(), block.chunk);
      values_ += block.rows * product.w->k;
    }
  }

  void pack_tile(std::int64_t index) const {
    const Block& block = block_at(blocks_, &Block::first_tile, index);
    const Product& product = *block.product;
    const RowTiles tiles(block.rows, body_.tile_rows);
    const int tile = static_cast<int>(index - block.first_tile);
    const std::int64_t row = block.first_row + tiles.first(tile);
    PackTileJob job{.x = product.x,
                    .stride = product.x_stride,
                    .rows = tiles.rows(tile),
                    .k = product.w->k,
                    .slices = product.w->slices,
                    .rounds = compute_.rounds(),
                    .out = block.x + tiles.first(tile) * row_bytes(product)};
    if (product.row_index != nullptr) {
      job.row_index = product.row_index + row;
    } else {
      job.x += row * product.x_stride;
    }
    body_.pack_tile(job);
  }

  void multiply_piece(std::int64_t piece, int member) const {
    const Block& block = block_at(blocks_, &Block::first_piece, piece);
    const Product& product = *block.product;
    const std::int64_t first = (piece - block.first_piece) * block.chunk;
    const std::int64_t last = std::min(first + block.chunk, product.panels());
    // Rows of one tile pass once over the weights: panels together, slice by slice. More rows go over a panel many
    // times.
    const std::int64_t together = block.rows <= body_.tile_rows ? kRowBlock / block.rows : 1;
    for (std::int64_t panel = first; panel < last; panel += together) {
      PanelJob job = panel_job(block, panel, std::min(panel + together, last));
      job.scratch = sums_ + static_cast<std::int64_t>(member) * kPanelScratchFloats;
      body_.panel(job);
    }
  }

  PanelJob panel_job(const Block& block, std::int64_t panel, std::int64_t end) const {
    const Product& product = *block.product;
    const PackedMatrix& w = *product.w;
    const std::int64_t width = product.gated() ? kPanelColumns / 2 : kPanelColumns;
    const std::int64_t columns = product.gated() ? w.n / 2 : w.n;
    const std::int64_t blocks = scale_blocks(product.slice_inputs());
    PanelJob job{.x = block.x, .rows = block.rows};
    job.panels = static_cast<int>(end - panel);
    job.columns = static_cast<int>(std::min(width, columns - (end - 1) * width));
    job.gated = product.gated();
    job.rounds = compute_.rounds();
    job.round_output = product.round_output;
    job.weights = w.data + panel * product.panel_bytes();
    job.weights_stride = product.panels() * product.panel_bytes();
    job.next_weights = next_weights(block, end - 1);
    job.slice_inputs = product.slice_inputs();
    job.slices = w.slices;
    job.fp8 = w.type == WeightType::kF8E4M3;
    if (job.fp8) {
      job.scales = w.scales + panel * blocks * 2;
      job.scales_stride = product.panels() * blocks * 2;
      job.scales_panel_stride = blocks * 2;
      job.input_origin = w.input_origin;
    }
    job.bias = product.bias != nullptr ? product.bias + panel * width : nullptr;
    job.out = product.out + block.first_row * product.out_stride + panel * width;
    job.out_stride = product.out_stride;
    return job;
  }

  // The panel that somebody will read next: a hint, the address is not read otherwise.
  const std::byte* next_weights(const Block& block, std::int64_t panel) const {
    if (panel + 1 < block.product->panels()) {
      return block.product->w->data + (panel + 1) * block.product->panel_bytes();
    }
    const Block* next = &block + 1;
    return next < blocks_.data() + blocks_.size() ? next->product->w->data : nullptr;
  }

  const Compute& compute_;
  const MatmulBody& body_;
  Workspace& work_;
  std::vector<Block>& blocks_;
  float* sums_ = nullptr;
  std::int64_t tiles_ = 0, pieces_ = 0, values_ = 0;
};

void check_matrix(const PackedMatrix& w, PanelOrder order) {
  check(w.order == order, "panels in the order this product reads");
  check(w.data != nullptr && w.n > 0 && w.k > 0, "a packed matrix with elements");
  check(w.slices >= 1 && w.slices <= kSlicesMax && w.k % w.slices == 0, "slices that divide the inputs");
  check(w.type == WeightType::kBf16 || w.scales != nullptr, "FP8 weights with scales");
}

void run_one(const Compute& compute, const Product& product) {
  if (product.rows > 0) {
    ProductRun(compute, workspace()).run({&product, 1});
  }
}

}  // namespace

void matmul(const Compute& compute, const MatmulArgs& args) {
  check_matrix(args.w, PanelOrder::kPlain);
  check_eq(args.x.columns, args.w.k, "columns of x and inputs of w");
  check_eq(args.out.columns, args.w.n, "columns of out and outputs of w");
  check_eq(args.out.rows, args.x.rows, "rows of out and of x");
  run_one(compute, {.w = &args.w,
                    .x = args.x.data,
                    .x_stride = args.x.stride,
                    .rows = args.x.rows,
                    .bias = args.bias,
                    .out = args.out.data,
                    .out_stride = args.out.stride,
                    .round_output = compute.rounds() && args.rounding == Rounding::kBf16});
}

void gated_matmul(const Compute& compute, Rows<const float> x, const PackedMatrix& w, Rows<float> out) {
  check_matrix(w, PanelOrder::kGated);
  check_eq(x.columns, w.k, "columns of x and inputs of w");
  check_eq(out.columns, div_exact<std::int64_t>(w.n, 2), "columns of out and gates of w");
  check_eq(out.rows, x.rows, "rows of out and of x");
  run_one(compute, {.w = &w,
                    .x = x.data,
                    .x_stride = x.stride,
                    .rows = x.rows,
                    .out = out.data,
                    .out_stride = out.stride});
}

void grouped_experts(const Compute& compute, Rows<const float> x, std::span<const ExpertRows> experts,
                     Rows<float> activations, Rows<float> out, Rounding rounding) {
  Workspace& work = workspace();
  std::vector<Product>& products = work.products;
  products.clear();
  std::int64_t first = 0;  // row of activations
  for (const ExpertRows& expert : experts) {
    const ExpertWeights& weights = *expert.weights;
    const auto rows = static_cast<std::int64_t>(expert.x_rows.size());
    check_matrix(weights.gate_up, PanelOrder::kGated);
    check_matrix(weights.down, PanelOrder::kPlain);
    check_eq(weights.gate_up.k, x.columns, "inputs of an expert and columns of x");
    check_eq(weights.down.k, weights.gate_up.n / 2, "inputs of down and gates of an expert");
    check_eq(weights.down.k, activations.columns, "inputs of down and columns of activations");
    check_eq(weights.down.n, out.columns, "outputs of an expert and columns of out");
    check(first + rows <= activations.rows, "rows of activations");
    check(expert.out_first >= 0 && expert.out_first + rows <= out.rows, "rows of out");
    for (const std::int32_t row : expert.x_rows) {
      check(row >= 0 && row < x.rows, "a chosen row inside x");
    }
    if (rows > 0) {
      products.push_back({.w = &weights.gate_up,
                          .x = x.data,
                          .x_stride = x.stride,
                          .row_index = expert.x_rows.data(),
                          .rows = rows,
                          .out = activations.row(first),
                          .out_stride = activations.stride});
    }
    first += rows;
  }
  ProductRun run(compute, work);
  run.run(products);

  products.clear();
  first = 0;
  for (const ExpertRows& expert : experts) {
    const auto rows = static_cast<std::int64_t>(expert.x_rows.size());
    if (rows > 0) {
      products.push_back({.w = &expert.weights->down,
                          .x = activations.row(first),
                          .x_stride = activations.stride,
                          .rows = rows,
                          .out = out.row(expert.out_first),
                          .out_stride = out.stride,
                          .round_output = compute.rounds() && rounding == Rounding::kBf16});
    }
    first += rows;
  }
  run.run(products);
}

}  // namespace zoetrope
