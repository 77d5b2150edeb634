// Memory of the KV pages of ring members: those of one host lie side by side in memory that they share, so that a visit
// of pages is a pointer. Members that cannot see each other's memory send pages as messages instead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/attention.h"
#include "parallel/communicator.h"
#include "parallel/host_memory.h"
#include "parallel/span.h"

namespace zoetrope {

// How pages reach the members that read them. kAuto: shared among the members of a host where the host lets them,
// messages otherwise. kShared: refused at start unless all members share.
enum class RingTransport { kAuto, kShared, kMessages };

// One layer's pages as a member sees them: its own, and those of all members of its host in one numbering.
struct RingPages {
  KvPages own;
  KvPages all = {};
  // [members] number in `all` of that member's page 0, -1: not to be seen from here. Empty: only the own ones are.
  std::span<const std::int64_t> first_page = {};

  // True when every member of the span sees all its pages: equal on all of them.
  bool shared_by(const Span& span) const;
  // Number in `all` of page `id` of `member`.
  std::int64_t number(int member, std::int32_t id) const { return first_page[static_cast<std::size_t>(member)] + id; }
};

class RingMemory {
 public:
  // Nothing is shared.
  RingMemory() = default;
  // Collective over `ring`, which outlives this; every member asks for the same number of bytes. `host`: the name of
  // this member's host; two hosts of one name are told apart by trying. Error(kStartup) when kShared cannot be had.
  RingMemory(Communicator& ring, std::string_view host, std::size_t pool_bytes, RingTransport wish);

  // The pools of this host's members side by side, zero-filled; empty when nothing is shared.
  std::span<std::byte> pools() const { return pools_; }
  std::span<std::byte> own() const {
    return pools_.subspan(static_cast<std::size_t>(own_) * pool_bytes_, pools_.empty() ? 0 : pool_bytes_);
  }
  // [members] equal for members that see each other's pools; empty where nobody tried.
  const std::vector<std::int32_t>& hosts() const { return hosts_; }
  bool huge_pages() const { return memory_ != nullptr && memory_->huge_pages(); }
  // [members] index of that member's pool in pools(), -1: not there.
  const std::vector<int>& places() const { return places_; }
  // "shared", "messages", or "shared by the members of a host" where only some share: for the log.
  std::string described() const;

 private:
  std::unique_ptr<HostMemory> memory_;
  std::span<std::byte> pools_;
  std::size_t pool_bytes_ = 0;
  int own_ = 0;
  std::vector<int> places_;
  std::vector<std::int32_t> hosts_;
  bool messages_ = true;  // some pair of members needs them
};

}  // namespace zoetrope
