// Memory that the ranks of one host share, for weights that every one of them reads: it exists once per host.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace zoetrope {

class HostMemory {
 public:
  virtual ~HostMemory() = default;
  virtual int local_rank() const = 0;  // among the ranks of this host
  virtual int local_ranks() const = 0;

  // Collective over the host's ranks: the same region, zero-filled, 64-byte aligned, lives as long as this object.
  virtual std::span<std::byte> allocate(std::size_t bytes) = 0;

  // All local ranks have finished writing.
  virtual void fence() = 0;
};

}  // namespace zoetrope
