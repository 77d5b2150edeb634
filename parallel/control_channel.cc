#include "parallel/control_channel.h"

#include <fmt/format.h>

#include <cstring>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "parallel/checksum.h"
#include "parallel/collectives.h"

namespace zoetrope {
namespace {

constexpr int kLeader = 0;
constexpr std::uint32_t kVersion = 0x5a430001;  // "ZC", version 1

// A plan without a long prompt is smaller: its memory is used for the next one. That of a long prompt would stay.
constexpr std::size_t kEnvelopeKept = std::size_t{1} << 20;

struct Header {
  std::uint32_t version = kVersion;
  std::uint32_t checksum = 0;  // CRC-32C of the number and the payload
  std::uint64_t number = 0;
};
static_assert(sizeof(Header) == 16);

std::uint32_t checksum_of(std::uint64_t number, std::span<const std::byte> payload) {
  return crc32c(payload, crc32c(std::as_bytes(std::span(&number, 1))));
}

[[noreturn]] void refuse_message(std::string what, std::string found, std::string expected) {
  refuse(Radius::kCluster, {std::move(what), std::move(found), std::move(expected),
                            "all ranks must run the same program; start the job again"});
}

}  // namespace

ControlChannel::ControlChannel(Communicator& world) : world_(world) {}

void ControlChannel::send(std::span<const std::byte> message) {
  check_eq(world_.rank(), kLeader, "the leader sends plans");
  const Header header{.checksum = checksum_of(next_, message), .number = next_};
  envelope_.resize(sizeof(header) + message.size());
  std::memcpy(envelope_.data(), &header, sizeof(header));
  std::copy(message.begin(), message.end(), envelope_.begin() + sizeof(header));
  broadcast(world_, envelope_, kLeader, "plan");
  if (envelope_.size() > kEnvelopeKept) {
    std::vector<std::byte>().swap(envelope_);
  }
  ++next_;
}

std::vector<std::byte> ControlChannel::receive() {
  check(world_.rank() != kLeader, "followers receive plans");
  std::vector<std::byte> message = broadcast(world_, {}, kLeader, "plan");
  Header header;
  if (message.size() < sizeof(header)) {
    refuse_message(fmt::format("plan {} at rank {}", next_, world_.rank()), fmt::format("{} bytes", message.size()),
                   fmt::format("at least {}", sizeof(header)));
  }
  std::memcpy(&header, message.data(), sizeof(header));
  message.erase(message.begin(), message.begin() + sizeof(header));
  const std::string what = fmt::format("plan {} at rank {}", next_, world_.rank());
  if (header.version != kVersion) {
    refuse_message(what + ": version", fmt::format("{:#010x}", header.version), fmt::format("{:#010x}", kVersion));
  }
  if (const std::uint32_t computed = checksum_of(header.number, message); computed != header.checksum) {
    refuse_message(what + ": checksum", fmt::format("{:#010x}", computed), fmt::format("{:#010x}", header.checksum));
  }
  if (header.number != next_) {
    refuse_message(what + ": number", fmt::format("{}", header.number), fmt::format("{}", next_));
  }
  ++next_;
  return message;
}

std::vector<std::vector<std::byte>> ControlChannel::collect(std::span<const std::byte> bytes) {
  return gather(world_, bytes, kLeader, "answers to a plan");
}

}  // namespace zoetrope
