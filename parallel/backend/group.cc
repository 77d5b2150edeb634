#include "parallel/backend/group.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <set>
#include <tuple>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "parallel/collectives.h"

namespace zoetrope {
namespace {

constexpr int kNumbersMax = 32767;  // the tags that every MPI grants
constexpr std::size_t kRanksNamedMax = 8;

}  // namespace

Group whole_group(int rank, int size) {
  check(rank >= 0 && rank < size, "a rank lies in its group");
  Group group{.number = 0, .rank = rank, .members = std::vector<int>(static_cast<std::size_t>(size))};
  std::iota(group.members.begin(), group.members.end(), 0);
  return group;
}

Group split_group(Communicator& parent, const Group& group, int color, int key, int& next_number) {
  const std::array<std::int32_t, 3> mine{color, key, next_number};
  const auto all = all_gather(parent, std::as_bytes(std::span(mine)), "split");
  std::vector<std::tuple<int, int, int>> chosen;  // key, rank in the parent, rank of the job
  std::set<int> colors;
  int base = 0;
  for (int r = 0; r < parent.size(); ++r) {
    std::array<std::int32_t, 3> theirs{};
    const auto& bytes = all[static_cast<std::size_t>(r)];
    check_eq(bytes.size(), sizeof(theirs), "a split's message has three numbers");
    std::memcpy(theirs.data(), bytes.data(), sizeof(theirs));
    colors.insert(theirs[0]);
    base = std::max(base, theirs[2]);
    if (theirs[0] == color) {
      chosen.emplace_back(theirs[1], r, group.members[static_cast<std::size_t>(r)]);
    }
  }
  std::sort(chosen.begin(), chosen.end());
  Group made;
  made.number = base + static_cast<int>(std::distance(colors.begin(), colors.find(color)));
  next_number = base + static_cast<int>(colors.size());
  check(next_number <= kNumbersMax, "a job makes few groups");
  for (const auto& [its_key, r, member] : chosen) {
    if (r == group.rank) {
      made.rank = made.size();
    }
    made.members.push_back(member);
  }
  return made;
}

void copy_own_parts(int own, std::span<const SendPart> sends, std::span<const ReceivePart> receives,
                    std::string_view what) {
  std::size_t next = 0;
  for (const SendPart& send : sends) {
    if (send.peer != own || send.bytes.empty()) {
      continue;
    }
    while (next < receives.size() && (receives[next].peer != own || receives[next].bytes.empty())) {
      ++next;
    }
    check(next < receives.size(), "a part to the own rank is received");
    if (receives[next].bytes.size() != send.bytes.size()) {
      refuse_length(what, own, own, send.bytes.size(), receives[next].bytes.size());
    }
    std::memmove(receives[next].bytes.data(), send.bytes.data(), send.bytes.size());
    ++next;
  }
  const bool left = std::any_of(receives.begin() + static_cast<std::ptrdiff_t>(next), receives.end(),
                                [own](const ReceivePart& part) { return part.peer == own && !part.bytes.empty(); });
  check(!left, "a part from the own rank is sent");
}

void refuse_length(std::string_view what, int from, int to, std::size_t sent, std::size_t expected) {
  refuse(Radius::kCluster,
         {fmt::format("'{}' from rank {} to rank {}", what, from, to), fmt::format("{} bytes", sent),
          fmt::format("{} bytes", expected), "the ranks are out of step; start the job again and report this"});
}

void give_up(JobBoard& board, int rank, std::string_view what, std::chrono::milliseconds deadline,
             std::span<const int> missing) {
  check(!missing.empty(), "somebody is missing when a deadline passes");
  std::vector<std::string> names;
  for (const int peer : missing.subspan(0, std::min(missing.size(), kRanksNamedMax))) {
    names.push_back(board.blamed(peer));
  }
  if (missing.size() > kRanksNamedMax) {
    names.push_back(fmt::format("{} more", missing.size() - kRanksNamedMax));
  }
  const double seconds = static_cast<double>(deadline.count()) / 1000.0;
  const Error error(
      Radius::kCluster,
      Complaint{fmt::format("rank {} in '{}'", rank, what),
                fmt::format("nothing from {} for {:.1f} s", fmt::join(names, "; "), seconds),
                fmt::format("all ranks within the deadline of {:.1f} s", seconds),
                "see whether that process was stopped, has died or is starved of cores, then start the job again"});
  board.stop(rank, error.what());
  throw error;
}

}  // namespace zoetrope
