// Packs many stored tensors into two regions: one shared by the ranks of the host, one of this rank. First everything
// is noted, then both regions are allocated once, then all pieces are packed: by all threads, the shared ones dealt
// over the ranks of the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/compute.h"
#include "kernels/matmul.h"
#include "parallel/host_memory.h"
#include "runtime/model/anonymous_memory.h"

namespace zoetrope {

// The same matrix seen from an output and an input on: what a shard or a piece packs.
StoredMatrix part_of(StoredMatrix stored, std::int64_t first_output, std::int64_t first_input);

enum class Home { kHost, kRank };

class WeightPacker {
 public:
  struct Part {
    StoredMatrix stored;
    std::int64_t n = 0;  // outputs
  };

  // Each note sets its target; the memory behind it is filled by pack_all(). Targets must stay where they are until
  // then.
  void plain(PackedMatrix& target, Home home, const StoredMatrix& stored, std::int64_t n, std::int64_t k, int slices);
  // Parts with the same inputs as one matrix; every part begins at a multiple of 32 outputs, outputs between are zero.
  void stacked(PackedMatrix& target, Home home, std::span<const Part> parts, std::int64_t k);
  // Separate gate and up matrices, each [half, k].
  void gated(PackedMatrix& target, Home home, const StoredMatrix& gate, const StoredMatrix& up, std::int64_t half,
             std::int64_t k);
  // Gates and ups in one stored matrix, the first up `up_offset` outputs after the first gate.
  void gated_joined(PackedMatrix& target, Home home, const StoredMatrix& stored, std::int64_t half, std::int64_t k,
                    std::int64_t up_offset);
  // `fill` writes `count` elements.
  void floats(const float*& target, Home home, std::int64_t count, std::function<void(float*)> fill);
  void table(Rows<const Bf16>& target, Home home, std::int64_t rows, std::int64_t columns,
             std::function<void(Bf16*)> fill);

  std::size_t bytes() const { return shared_bytes_ + own_bytes_; }  // noted so far

  struct Packed {
    std::span<std::byte> shared;  // belongs to the HostMemory
    AnonymousMemory own;
  };
  // Allocates, packs, sets the targets, waits for the other ranks of the host. Collective over the host.
  Packed pack_all(const Compute& compute, HostMemory& host, const std::function<void(double)>& progress);

 private:
  // A place in one of the two regions.
  struct Place {
    Home home = Home::kHost;
    std::size_t offset = 0;
  };
  struct Piece {
    Home home = Home::kHost;
    std::size_t bytes = 0;  // of work
    std::function<void(std::byte* shared, std::byte* own)> fill;
  };
  using PackPanels =
      std::function<void(int slice, std::int64_t first_panel, std::int64_t panels, std::byte* data, float* scales)>;

  Place reserve(Home home, std::size_t bytes);
  // Places for a matrix of `panels` panels per slice, and pieces of about a megabyte that fill it.
  void note_matrix(PackedMatrix& target, Home home, std::int64_t panels, PackPanels pack_panels);

  std::size_t shared_bytes_ = 0;
  std::size_t own_bytes_ = 0;
  std::vector<Piece> pieces_;
  std::vector<std::function<void(std::byte* shared, std::byte* own)>> targets_;
};

}  // namespace zoetrope
