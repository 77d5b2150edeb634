#include "parallel/ring_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "monitoring/error.h"
#include "monitoring/log.h"
#include "parallel/collectives.h"

namespace zoetrope {
namespace {

// What every member tells: its number, in the order of members.
std::vector<std::int32_t> gathered(Communicator& ring, std::int32_t own, std::string_view what) {
  std::vector<std::int32_t> all;
  for (const auto& bytes : all_gather(ring, std::as_bytes(std::span(&own, 1)), what)) {
    check_eq(bytes.size(), sizeof(std::int32_t), "a member's number has its size");
    std::memcpy(&all.emplace_back(), bytes.data(), sizeof(std::int32_t));
  }
  return all;
}

// The lowest member whose host has this one's name.
std::int32_t first_of_host(Communicator& ring, std::string_view host) {
  const auto names = all_gather(ring, std::as_bytes(std::span(host)), "hosts of the ring");
  const auto& own = names[static_cast<std::size_t>(ring.rank())];
  return static_cast<std::int32_t>(std::find(names.begin(), names.end(), own) - names.begin());
}

}  // namespace

bool RingPages::shared_by(const Span& span) const {
  if (first_page.empty()) {
    return false;
  }
  for (int slot = 0; slot < span.members; ++slot) {
    if (first_page[static_cast<std::size_t>(span.member_at(slot))] < 0) {
      return false;
    }
  }
  return true;
}

RingMemory::RingMemory(Communicator& ring, std::string_view host, std::size_t pool_bytes, RingTransport wish)
    : pool_bytes_(pool_bytes) {
  if (wish == RingTransport::kMessages || ring.size() == 1) {
    messages_ = wish == RingTransport::kMessages;
    return;
  }
  const std::int32_t first = first_of_host(ring, host);
  auto memory = memory_of_host(ring.split(first, ring.rank()));
  std::string cause = "the members lie on several hosts, or in containers that do not see each other's memory";
  const auto peers = gathered(ring, memory->local_ranks() > 1 ? first : -1, "members that share memory");
  std::int32_t shares = memory->local_ranks() > 1 ? 1 : 0;
  if (shares == 1 && pool_bytes > 0) {
    try {
      pools_ = memory->allocate(pool_bytes * static_cast<std::size_t>(memory->local_ranks()));
    } catch (const Error& error) {
      if (error.radius() == Radius::kCluster) {
        throw;
      }
      cause = error.what();  // at every member of this host
      shares = 0;
    }
  }
  const auto able = gathered(ring, shares, "members that share memory");
  for (std::int32_t member = 0; member < ring.size(); ++member) {
    const auto at = static_cast<std::size_t>(member);
    hosts_.push_back(able[at] == 1 ? peers[at] : -1 - member);
  }
  messages_ = !std::all_of(able.begin(), able.end(), [](std::int32_t yes) { return yes == 1; }) ||
              !std::all_of(peers.begin(), peers.end(), [&](std::int32_t peer) { return peer == peers[0]; });
  if (messages_ && wish == RingTransport::kShared) {
    refuse(Radius::kStartup, {"--ring-transport shared", cause, "all members of the ring in the memory of one host",
                              "use --ring-transport auto"});
  }
  if (shares == 0) {
    pools_ = {};
    return;
  }
  memory_ = std::move(memory);
  int next = 0;
  for (int member = 0; member < ring.size(); ++member) {
    const bool here = peers[static_cast<std::size_t>(member)] == first;
    own_ = member == ring.rank() ? next : own_;
    places_.push_back(here ? next++ : -1);
  }
}

std::string RingMemory::described() const {
  return places_.empty() ? "messages" : messages_ ? "shared by the members of a host" : "shared";
}

}  // namespace zoetrope
