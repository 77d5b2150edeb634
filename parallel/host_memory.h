// Memory that the ranks of one host share, for weights that every one of them reads: it exists once per host.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "parallel/communicator.h"

namespace zoetrope {

class HostMemory {
 public:
  virtual ~HostMemory() = default;
  virtual int local_rank() const = 0;  // among the ranks of this host
  virtual int local_ranks() const = 0;

  // Collective over the host's ranks: the same region, zero-filled, 64-byte aligned, lives as long as this object.
  // Error(kStartup) when there is no memory for it, at all of them.
  virtual std::span<std::byte> allocate(std::size_t bytes) = 0;

  // Whether regions are made of pages of 2 MiB where the system has such.
  virtual bool huge_pages() const = 0;

  // All local ranks have finished writing.
  virtual void fence() = 0;
};

// Of one rank: local rank 0 of 1.
std::unique_ptr<HostMemory> private_memory();

// Of `host_ranks`, ranks (processes or threads) of one host; collective. Where they cannot see each other's memory
// (containers of their own) each gets private memory, so that local_rank() is 0 and every rank fills its own, and the
// log says so.
std::unique_ptr<HostMemory> memory_of_host(std::unique_ptr<Communicator> host_ranks);

}  // namespace zoetrope
