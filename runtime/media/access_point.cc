#include "runtime/media/access_point.h"

extern "C" {
#include <libavcodec/codec_desc.h>
#include <libavcodec/codec_id.h>
}

#include <functional>
#include <optional>
#include <string_view>

namespace zoetrope {
namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::size_t kParameterSetsMax = 4096;

// Calls f(unit) for each stretch between start codes 00 00 01; the unit begins with the byte after them.
template <typename F>
void for_each_start_code(Bytes data, const F& f) {
  std::size_t begin = 0;  // of the current unit; 0 while none was met
  for (std::size_t i = 0; i + 3 <= data.size(); ++i) {
    if (data[i] == 0 && data[i + 1] == 0 && data[i + 2] == 1) {
      if (begin != 0) {
        f(data.subspan(begin, i - begin));
      }
      begin = i + 3;
      i += 2;
    }
  }
  if (begin != 0 && begin < data.size()) {
    f(data.subspan(begin));
  }
}

// Calls f(unit) for each unit behind a length of `length_bytes`.
template <typename F>
void for_each_length(Bytes data, int length_bytes, const F& f) {
  const auto prefix = static_cast<std::size_t>(length_bytes);
  while (data.size() > prefix) {
    std::size_t n = 0;
    for (std::size_t i = 0; i < prefix; ++i) {
      n = n << 8 | data[i];
    }
    data = data.subspan(prefix);
    if (n == 0 || n > data.size()) {
      return;
    }
    f(data.first(n));
    data = data.subspan(n);
  }
}

// `count` sets behind one another from `at` on, each with its 16-bit length in front. False when one reaches beyond the
// end.
template <typename F>
bool for_each_sized_set(Bytes extradata, std::size_t& at, int count, const F& f) {
  for (; count > 0 && at + 2 <= extradata.size(); --count) {
    const std::size_t n = static_cast<std::size_t>(extradata[at]) << 8 | extradata[at + 1];
    at += 2;
    if (n > extradata.size() - at) {
      return false;
    }
    f(extradata.subspan(at, n));
    at += n;
  }
  return true;
}

// avcC: from byte 5 on a count (5 bits) of sequence sets, then a count of picture sets.
template <typename F>
void for_each_avcc_set(Bytes extradata, const F& f) {
  std::size_t at = 5;
  for (const int mask : {0x1f, 0xff}) {
    if (at >= extradata.size()) {
      return;
    }
    const int count = extradata[at++] & mask;
    if (!for_each_sized_set(extradata, at, count, f)) {
      return;
    }
  }
}

// hvcC: byte 22 counts arrays of (type, 16-bit count, sets).
template <typename F>
void for_each_hvcc_set(Bytes extradata, const F& f) {
  std::size_t at = 23;
  for (int array = extradata.size() > 22 ? extradata[22] : 0; array > 0 && at + 3 <= extradata.size(); --array) {
    const int count = extradata[at + 1] << 8 | extradata[at + 2];
    at += 3;
    if (!for_each_sized_set(extradata, at, count, f)) {
      return;
    }
  }
}

PacketFacts read_vp9(Bytes packet, bool key) {
  PacketFacts facts;
  const bool superframe = !packet.empty() && (packet.back() & 0xe0) == 0xc0;
  if (packet.empty() || packet[0] >> 6 != 2) {
    return facts;
  }
  // Uncompressed header: marker 2, profile low and high bit, a reserved bit in profile 3, show_existing, type, show.
  int bit = 2;
  const auto next = [&] {
    const int value = packet[0] >> (7 - bit) & 1;
    ++bit;
    return value;
  };
  const int profile = next() | next() << 1;
  if (profile == 3) {
    ++bit;
  }
  if (next() != 0) {
    return facts;  // shows a frame decoded before
  }
  const bool inter = next() != 0;
  const bool show = bit < 8 ? next() != 0 : true;
  facts.shown = show || superframe;
  facts.clean = key && !inter && facts.shown;
  return facts;
}

PacketFacts read_vp8(Bytes packet) {
  PacketFacts facts;
  facts.shown = packet.empty() || (packet[0] >> 4 & 1) != 0;
  return facts;  // the segment map may outlive a key frame: no proof
}

std::optional<std::size_t> leb128(Bytes data, std::size_t& at) {
  std::size_t value = 0;
  for (std::size_t i = 0; i < 8 && at < data.size(); ++i) {
    const std::uint8_t byte = data[at++];
    value |= static_cast<std::size_t>(byte & 0x7f) << (7 * i);
    if ((byte & 0x80) == 0) {
      return value;
    }
  }
  return std::nullopt;
}

PacketFacts read_av1(Bytes packet, bool key) {
  PacketFacts facts;
  bool sequence = false;
  for (std::size_t at = 0; at < packet.size();) {
    const int type = packet[at] >> 3 & 15;
    const bool extension = (packet[at] & 4) != 0;
    const bool sized = (packet[at] & 2) != 0;
    at += extension ? 2 : 1;
    const auto n = sized ? leb128(packet, at) : std::optional(packet.size() - std::min(at, packet.size()));
    if (!n || *n > packet.size() - std::min(at, packet.size())) {
      return facts;
    }
    if (type == 1) {
      sequence = *n > 0 && (packet[at] & 0x08) == 0;  // not the reduced header of still pictures
    } else if ((type == 3 || type == 6) && *n > 0) {
      const int header = packet[at] >> 4;  // show_existing_frame, two bits of frame_type (0: key), show_frame
      facts.clean = key && sequence && header == 1;
      return facts;
    }
    at += *n;
  }
  return facts;
}

}  // namespace

PacketReader::PacketReader(int codec, Bytes extradata) : codec_(codec) {
  const AVCodecDescriptor* descriptor = avcodec_descriptor_get(static_cast<AVCodecID>(codec));
  intra_only_ = descriptor != nullptr && (descriptor->props & AV_CODEC_PROP_INTRA_ONLY) != 0;
  const auto learn = [&](Bytes set) { remember(set); };
  if (codec == AV_CODEC_ID_H264 && extradata.size() >= 7 && extradata[0] == 1) {
    length_bytes_ = (extradata[4] & 3) + 1;
    for_each_avcc_set(extradata, learn);
  } else if (codec == AV_CODEC_ID_HEVC && extradata.size() >= 23 &&
             (extradata[0] != 0 || extradata[1] != 0 || extradata[2] > 1)) {
    length_bytes_ = (extradata[21] & 3) + 1;
    for_each_hvcc_set(extradata, learn);
  } else {
    for_each_start_code(extradata, learn);
  }
}

void PacketReader::remember(Bytes parameters) {
  while (!parameters.empty() && parameters.back() == 0) {
    parameters = parameters.first(parameters.size() - 1);  // zeros before the next start code belong to nobody
  }
  const std::size_t hash =
      std::hash<std::string_view>{}({reinterpret_cast<const char*>(parameters.data()), parameters.size()});
  if (parameters_.contains(hash)) {
    return;
  }
  if (first_ && parameters_.size() < kParameterSetsMax) {
    parameters_.insert(hash);
  } else {
    parameters_changed_ = true;
  }
}

PacketFacts PacketReader::read(Bytes packet, bool key) {
  PacketFacts facts;
  switch (codec_) {
    case AV_CODEC_ID_H264:
    case AV_CODEC_ID_HEVC:
      facts = read_nals(packet, key);
      break;
    case AV_CODEC_ID_MPEG1VIDEO:
    case AV_CODEC_ID_MPEG2VIDEO:
      facts = read_mpeg2(packet, key);
      break;
    case AV_CODEC_ID_MPEG4:
      facts = read_mpeg4(packet, key);
      break;
    case AV_CODEC_ID_VP8:
      facts = read_vp8(packet);
      break;
    case AV_CODEC_ID_VP9:
      facts = read_vp9(packet, key);
      break;
    case AV_CODEC_ID_AV1:
      facts = read_av1(packet, key);
      break;
    default:
      facts.clean = intra_only_ && key;
  }
  facts.clean = facts.clean && !parameters_changed_;
  first_ = false;
  return facts;
}

PacketFacts PacketReader::read_nals(Bytes packet, bool key) {
  const bool hevc = codec_ == AV_CODEC_ID_HEVC;
  PacketFacts facts;
  int first_picture = -1;  // type of the first unit that carries picture data
  const auto look = [&](Bytes unit) {
    const int type = hevc ? unit[0] >> 1 & 63 : unit[0] & 31;
    const bool parameters = hevc ? type >= 32 && type <= 34 : type == 7 || type == 8 || type == 13 || type == 15;
    const bool picture = hevc ? type <= 31 : type >= 1 && type <= 5;
    const bool base_layer = !hevc || (unit.size() >= 2 && (unit[0] & 1) == 0 && unit[1] >> 3 == 0);
    if (parameters) {
      remember(unit);
    } else if (picture && base_layer && first_picture < 0) {
      first_picture = type;
    }
  };
  if (length_bytes_ != 0) {
    for_each_length(packet, length_bytes_, look);
  } else {
    for_each_start_code(packet, look);
  }
  facts.clean = key && (hevc ? first_picture == 19 || first_picture == 20 || first_picture == 21 : first_picture == 5);
  return facts;
}

PacketFacts PacketReader::read_mpeg2(Bytes packet, bool key) {
  PacketFacts facts;
  bool sequence = false;
  bool intra_first = false;
  int pictures = 0;
  int fields = 0;
  for_each_start_code(packet, [&](Bytes unit) {
    if (unit[0] == 0xb3) {
      sequence = sequence || pictures == 0;
    } else if (unit[0] == 0x00 && unit.size() >= 3) {
      intra_first = intra_first || (pictures == 0 && (unit[2] >> 3 & 7) == 1);
      ++pictures;
    } else if (unit[0] == 0xb5 && unit.size() >= 4 && unit[1] >> 4 == 8) {  // picture coding extension
      fields += (unit[3] & 3) != 3 ? 1 : 0;
    }
  });
  facts.odd = pictures - fields / 2 != 1 || fields % 2 != 0;
  facts.clean = key && sequence && intra_first && !facts.odd;
  return facts;
}

PacketFacts PacketReader::read_mpeg4(Bytes packet, bool key) {
  PacketFacts facts;
  int pictures = 0;
  bool intra_first = false;
  for_each_start_code(packet, [&](Bytes unit) {
    if (unit[0] >= 0x20 && unit[0] <= 0x2f) {  // video object layer
      remember(unit);
    } else if (unit[0] == 0xb6 && unit.size() >= 2) {
      intra_first = intra_first || (pictures == 0 && unit[1] >> 6 == 0);
      ++pictures;
    }
  });
  // Packed streams put two pictures into one packet and a stand-in of a few bytes into the next.
  facts.odd = pictures != 1 || packet.size() <= 8;
  facts.clean = key && intra_first && !facts.odd;
  return facts;
}

}  // namespace zoetrope
