#include "runtime/model/weight_packer.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>

#include "monitoring/check.h"
#include "monitoring/error.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kPanelOutputs = 32;
constexpr std::int64_t kGatedHalf = 16;  // gates of a panel, and ups
constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
constexpr int kProgressSteps = 100;

std::size_t element_bytes(WeightType type) { return type == WeightType::kBf16 ? 2 : 1; }

PackedMatrix view_of(const StoredMatrix& stored, PanelOrder order, std::int64_t n, std::int64_t k, int slices) {
  return {.type = stored.type, .order = order, .n = n, .k = k, .slices = slices, .input_origin = stored.input_origin};
}

}  // namespace

StoredMatrix part_of(StoredMatrix stored, std::int64_t first_output, std::int64_t first_input) {
  const std::int64_t elements = first_output * stored.output_stride + first_input * stored.input_stride;
  stored.data += elements * static_cast<std::int64_t>(element_bytes(stored.type));
  stored.output_origin += first_output;
  stored.input_origin += first_input;
  return stored;
}

WeightPacker::Place WeightPacker::reserve(Home home, std::size_t bytes) {
  std::size_t& total = home == Home::kHost ? shared_bytes_ : own_bytes_;
  if (bytes > std::numeric_limits<std::ptrdiff_t>::max() / 4 ||
      total > std::numeric_limits<std::ptrdiff_t>::max() / 2) {
    refuse(Radius::kStartup, {.what = "memory for packed weights",
                              .found = fmt::format("{} bytes and {} more", total, bytes),
                              .expected = "a sum that a process can address",
                              .remedy = "check the sizes in config.json"});
  }
  const Place place{.home = home, .offset = total};
  total += round_up<std::size_t>(bytes, 64);
  return place;
}

void WeightPacker::note_matrix(PackedMatrix& target, Home home, std::int64_t panels, PackPanels pack_panels) {
  const std::int64_t slice_k = div_exact<std::int64_t>(target.k, target.slices);
  const std::size_t panel_bytes = packed_bytes(target.type, PanelOrder::kPlain, kPanelOutputs, slice_k, 1);
  const std::size_t panel_scales = packed_scales(target.type, kPanelOutputs, slice_k, 1);
  const auto all_panels = static_cast<std::size_t>(panels * target.slices);
  check_eq(packed_bytes(target.type, target.order, target.n, target.k, target.slices), all_panels * panel_bytes,
           "a packed matrix is its panels");
  const Place data = reserve(home, all_panels * panel_bytes);
  const Place scales = reserve(home, all_panels * panel_scales * sizeof(float));
  const bool scaled = panel_scales != 0;
  targets_.push_back([&target, data, scales, scaled](std::byte* shared, std::byte* own) {
    std::byte* base = data.home == Home::kHost ? shared : own;
    target.data = base + data.offset;
    target.scales = scaled ? reinterpret_cast<const float*>(base + scales.offset) : nullptr;
  });
  const auto panels_per_piece =
      static_cast<std::int64_t>(std::max<std::size_t>(1, kPieceBytes / std::max<std::size_t>(1, panel_bytes)));
  for (int slice = 0; slice < target.slices; ++slice) {
    for (std::int64_t first = 0; first < panels; first += panels_per_piece) {
      const std::int64_t count = std::min(panels_per_piece, panels - first);
      const auto before = static_cast<std::size_t>(slice * panels + first);
      pieces_.push_back({.home = home,
                         .bytes = static_cast<std::size_t>(count) * panel_bytes,
                         .fill = [=](std::byte* shared, std::byte* own) {
                           std::byte* base = home == Home::kHost ? shared : own;
                           auto* scale = reinterpret_cast<float*>(base + scales.offset) + before * panel_scales;
                           pack_panels(slice, first, count, base + data.offset + before * panel_bytes,
                                       scaled ? scale : nullptr);
                         }});
    }
  }
}

void WeightPacker::plain(PackedMatrix& target, Home home, const StoredMatrix& stored, std::int64_t n, std::int64_t k,
                         int slices) {
  target = view_of(stored, PanelOrder::kPlain, n, k, slices);
  const std::int64_t slice_k = div_exact<std::int64_t>(k, slices);
  note_matrix(target, home, div_ceil(n, kPanelOutputs),
              [=](int slice, std::int64_t first, std::int64_t count, std::byte* data, float* scales) {
                const std::int64_t output = first * kPanelOutputs;
                pack(part_of(stored, output, slice * slice_k), PanelOrder::kPlain,
                     std::min(count * kPanelOutputs, n - output), slice_k, 1, 0, data, scales);
              });
}

void WeightPacker::stacked(PackedMatrix& target, Home home, std::span<const Part> parts, std::int64_t k) {
  struct Placed {
    Part part;
    std::int64_t first_panel = 0;
  };
  std::vector<Placed> placed;
  std::int64_t panels = 0;
  for (const Part& part : parts) {
    check(part.stored.type == parts.front().stored.type, "matrices of one product are stored in one type");
    placed.push_back({part, panels});
    panels += div_ceil(part.n, kPanelOutputs);
  }
  target = view_of(parts.front().stored, PanelOrder::kPlain, panels * kPanelOutputs, k, 1);
  note_matrix(target, home, panels,
              [=, type = target.type](int, std::int64_t first, std::int64_t count, std::byte* data, float* scales) {
                for (std::int64_t panel = first; panel < first + count; ++panel) {
                  const auto owner = std::prev(std::ranges::upper_bound(placed, panel, {}, &Placed::first_panel));
                  const std::int64_t output = (panel - owner->first_panel) * kPanelOutputs;
                  const auto at = static_cast<std::size_t>(panel - first);
                  pack(part_of(owner->part.stored, output, 0), PanelOrder::kPlain,
                       std::min(kPanelOutputs, owner->part.n - output), k, 1, 0,
                       data + at * packed_bytes(type, PanelOrder::kPlain, kPanelOutputs, k, 1),
                       scales == nullptr ? nullptr : scales + at * packed_scales(type, kPanelOutputs, k, 1));
                }
              });
}

void WeightPacker::gated(PackedMatrix& target, Home home, const StoredMatrix& gate, const StoredMatrix& up,
                         std::int64_t half, std::int64_t k) {
  target = view_of(gate, PanelOrder::kGated, 2 * half, k, 1);
  note_matrix(target, home, div_ceil(half, kGatedHalf),
              [=](int, std::int64_t first, std::int64_t count, std::byte* data, float* scales) {
                const std::int64_t output = first * kGatedHalf;
                pack_gated(part_of(gate, output, 0), part_of(up, output, 0),
                           2 * std::min(count * kGatedHalf, half - output), k, data, scales);
              });
}

void WeightPacker::gated_joined(PackedMatrix& target, Home home, const StoredMatrix& stored, std::int64_t half,
                                std::int64_t k, std::int64_t up_offset) {
  target = view_of(stored, PanelOrder::kGated, 2 * half, k, 1);
  note_matrix(target, home, div_ceil(half, kGatedHalf),
              [=](int, std::int64_t first, std::int64_t count, std::byte* data, float* scales) {
                const std::int64_t output = first * kGatedHalf;
                pack(part_of(stored, output, 0), PanelOrder::kGated, 2 * std::min(count * kGatedHalf, half - output), k,
                     1, up_offset, data, scales);
              });
}

void WeightPacker::floats(const float*& target, Home home, std::int64_t count, std::function<void(float*)> fill) {
  const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(float);
  const Place place = reserve(home, bytes);
  targets_.push_back([&target, place](std::byte* shared, std::byte* own) {
    target = reinterpret_cast<const float*>((place.home == Home::kHost ? shared : own) + place.offset);
  });
  pieces_.push_back({.home = home, .bytes = bytes, .fill = [=](std::byte* shared, std::byte* own) {
                       fill(reinterpret_cast<float*>((home == Home::kHost ? shared : own) + place.offset));
                     }});
}

void WeightPacker::table(Rows<const Bf16>& target, Home home, std::int64_t rows, std::int64_t columns,
                         std::function<void(Bf16*)> fill) {
  const std::size_t bytes = static_cast<std::size_t>(rows * columns) * sizeof(Bf16);
  const Place place = reserve(home, bytes);
  targets_.push_back([&target, place, rows, columns](std::byte* shared, std::byte* own) {
    target = {reinterpret_cast<const Bf16*>((place.home == Home::kHost ? shared : own) + place.offset), rows, columns};
  });
  pieces_.push_back({.home = home, .bytes = bytes, .fill = [=](std::byte* shared, std::byte* own) {
                       fill(reinterpret_cast<Bf16*>((home == Home::kHost ? shared : own) + place.offset));
                     }});
}

WeightPacker::Packed WeightPacker::pack_all(const Compute& compute, HostMemory& host,
                                            const std::function<void(double)>& progress) {
  Packed packed{.shared = host.allocate(shared_bytes_), .own = AnonymousMemory(own_bytes_, "packed weights")};
  std::byte* shared = packed.shared.data();
  std::byte* own = packed.own.data();
  for (const auto& set_target : targets_) {
    set_target(shared, own);
  }
  // A shared piece belongs to the rank in whose part of the shared bytes it begins.
  std::vector<const Piece*> mine;
  std::size_t shared_before = 0;
  std::size_t work = 0;
  for (const Piece& piece : pieces_) {
    const bool is_mine =
        piece.home == Home::kRank ||
        static_cast<int>(static_cast<unsigned __int128>(shared_before) * static_cast<unsigned>(host.local_ranks()) /
                         std::max<std::size_t>(1, shared_bytes_)) == host.local_rank();
    if (piece.home == Home::kHost) {
      shared_before += piece.bytes;
    }
    if (is_mine) {
      mine.push_back(&piece);
      work += piece.bytes;
    }
  }
  std::size_t done = 0;
  for (std::size_t first = 0; first < mine.size();) {
    std::size_t end = first;
    std::size_t bytes = 0;
    while (end < mine.size() && (end == first || bytes < work / kProgressSteps)) {
      bytes += mine[end++]->bytes;
    }
    compute.pool->parallel_for(static_cast<std::int64_t>(end - first), [&](std::int64_t piece, int) {
      mine[first + static_cast<std::size_t>(piece)]->fill(shared, own);
    });
    first = end;
    done += bytes;
    if (progress) {
      progress(work == 0 ? 1.0 : static_cast<double>(done) / static_cast<double>(work));
    }
  }
  host.fence();
  pieces_.clear();
  targets_.clear();
  return packed;
}

}  // namespace zoetrope
