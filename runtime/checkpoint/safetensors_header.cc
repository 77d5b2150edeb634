// The header of a safetensors file. Every rule of the format is checked: lazy readers that skip some have been the way
// in for files that say one thing to one program and another to the next.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <utility>

#include "runtime/checkpoint/safetensors.h"
#include "runtime/json/json.h"

namespace zoetrope {
namespace {

struct TypeRow {
  std::string_view name;
  int bits;
};
// In the order of StoredType.
constexpr std::array<TypeRow, 20> kTypes = {{{"BOOL", 8}, {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
                                             {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},
                                             {"U16", 16}, {"F16", 16},    {"BF16", 16},   {"I32", 32},    {"U32", 32},
                                             {"F32", 32}, {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}}};
static_assert(static_cast<std::size_t>(StoredType::kU64) + 1 == kTypes.size());

constexpr std::string_view kFetchAgain = "fetch the file again";

// Complaints about one tensor of one file.
class TensorFaults {
 public:
  TensorFaults(std::string_view tensor, const std::string& file, Problems& problems)
      : where_(fmt::format("tensor {} in {}", zoetrope::quoted(tensor, 200), file)), problems_(problems) {}
  void add(std::string_view what, std::string found, std::string expected) {
    problems_.add(
        {fmt::format("{}: {}", where_, what), std::move(found), std::move(expected), std::string(kFetchAgain)});
  }

 private:
  std::string where_;
  Problems& problems_;
};

std::optional<std::uint64_t> natural(const json::Value& value) {
  if (value.is_int64() && value.get_int64() >= 0) {
    return static_cast<std::uint64_t>(value.get_int64());
  }
  return value.is_uint64() ? std::optional(value.get_uint64()) : std::nullopt;
}

std::string printed(const json::Value* value) {
  if (value == nullptr) {
    return "nothing (the field is missing)";
  }
  const bool small = value->is_array() && value->get_array().size() <= 16;
  return small ? zoetrope::quoted(boost::json::serialize(*value), 200) : json::described(*value);
}

std::optional<StoredType> type_of(const json::Value* value) {
  if (value != nullptr && value->is_string()) {
    const std::string_view name(value->get_string());
    for (std::size_t i = 0; i < kTypes.size(); ++i) {
      if (kTypes[i].name == name) {
        return static_cast<StoredType>(i);
      }
    }
  }
  return std::nullopt;
}

std::optional<std::vector<std::int64_t>> shape_of(const json::Value* value) {
  if (value == nullptr || !value->is_array()) {
    return std::nullopt;
  }
  std::vector<std::int64_t> shape;
  for (const json::Value& side : value->get_array()) {
    if (!side.is_int64() || side.get_int64() < 0) {
      return std::nullopt;
    }
    shape.push_back(side.get_int64());
  }
  return shape;
}

// Bytes of shape x type; nothing when the product leaves 64 bits or is no whole number of bytes.
std::optional<std::uint64_t> bytes_of(const std::vector<std::int64_t>& shape, StoredType type) {
  std::uint64_t bits = static_cast<std::uint64_t>(stored_type_bits(type));
  for (const std::int64_t side : shape) {
    if (__builtin_mul_overflow(bits, static_cast<std::uint64_t>(side), &bits)) {
      return std::nullopt;
    }
  }
  return bits % 8 == 0 ? std::optional(bits / 8) : std::nullopt;
}

bool offsets_of(const json::Value* value, HeaderEntry& entry) {
  if (value == nullptr || !value->is_array() || value->get_array().size() != 2) {
    return false;
  }
  const auto begin = natural(value->get_array()[0]);
  const auto end = natural(value->get_array()[1]);
  if (!begin || !end || *begin > *end) {
    return false;
  }
  entry.begin = *begin;
  entry.end = *end;
  return true;
}

// One tensor, but for its neighbours. False when its place in the file is unknown.
bool read_place(std::string_view name, const json::Value& value, HeaderEntry& entry, TensorFaults faults) {
  entry.name = name;
  if (!value.is_object()) {
    faults.add("its entry", json::described(value), "an object with dtype, shape and data_offsets");
    return false;
  }
  const json::Object& object = value.get_object();
  if (!offsets_of(object.if_contains("data_offsets"), entry)) {
    faults.add("data_offsets", printed(object.if_contains("data_offsets")), "[begin, end] with 0 <= begin <= end");
    return false;
  }
  return true;
}

bool read_kind(const json::Object& object, HeaderEntry& entry, TensorFaults faults) {
  const auto type = type_of(object.if_contains("dtype"));
  if (!type) {
    faults.add("dtype", printed(object.if_contains("dtype")), "a type that the format knows, as BF16, F8_E4M3, F32");
    return false;
  }
  const auto shape = shape_of(object.if_contains("shape"));
  if (!shape) {
    faults.add("shape", printed(object.if_contains("shape")), "a list of whole numbers, none negative");
    return false;
  }
  entry.type = *type;
  entry.shape = *shape;
  const auto bytes = bytes_of(entry.shape, entry.type);
  if (!bytes) {
    faults.add("shape", shape_text(entry.shape),
               fmt::format("a size in whole bytes that fits in 64 bits for {}", stored_type_name(*type)));
    return false;
  }
  if (*bytes != entry.end - entry.begin) {
    faults.add("data_offsets", fmt::format("[{}, {}], {} bytes", entry.begin, entry.end, entry.end - entry.begin),
               fmt::format("{} bytes for {} {}", *bytes, stored_type_name(*type), shape_text(entry.shape)));
    return false;
  }
  return true;
}

// Neighbours must touch: no hole, no overlap, from the first byte of data to the last.
class Cover {
 public:
  Cover(std::uint64_t data_bytes, const std::string& file, Problems& problems)
      : data_bytes_(data_bytes), file_(file), problems_(problems) {}

  // Entries come by rising offset. False when the entry's bytes are not its own or not in the file.
  bool add(const HeaderEntry& entry) {
    TensorFaults faults(entry.name, file_, problems_);
    const std::string found = fmt::format("[{}, {}]", entry.begin, entry.end);
    const std::string after = last_.empty() ? "the header" : fmt::format("tensor {}", zoetrope::quoted(last_, 200));
    bool whole = true;
    if (entry.begin < covered_) {
      faults.add("data_offsets overlap", found, fmt::format("a begin at {}, where {} ends", covered_, after));
      whole = false;
    } else if (entry.begin > covered_) {
      faults.add("data_offsets leave a hole", found, fmt::format("a begin at {}, where {} ends", covered_, after));
    }
    if (entry.end > data_bytes_) {
      faults.add("data_offsets reach beyond the end of the file (truncated?)", found,
                 fmt::format("an end of at most {}, all bytes after the header", data_bytes_));
      whole = false;
    }
    if (const int bits = stored_type_bits(entry.type);
        bits > 8 && entry.begin % static_cast<std::uint64_t>(bits / 8) != 0) {
      faults.add("data_offsets", found,
                 fmt::format("a begin at a multiple of {} bytes for {}", bits / 8, stored_type_name(entry.type)));
      whole = false;
    }
    if (entry.end > covered_) {
      covered_ = entry.end;
      last_ = entry.name;
    }
    return whole;
  }

  void finish() {
    if (covered_ < data_bytes_) {
      problems_.add({fmt::format("{}: bytes after the last tensor", file_),
                     fmt::format("{} bytes of data", data_bytes_),
                     fmt::format("{}, where the last tensor ends", covered_), std::string(kFetchAgain)});
    }
  }

 private:
  std::uint64_t data_bytes_;
  const std::string& file_;
  Problems& problems_;
  std::uint64_t covered_ = 0;
  std::string last_;
};

void check_metadata(const json::Value& value, const std::string& file, Problems& problems) {
  const bool texts = value.is_object() && std::all_of(value.get_object().begin(), value.get_object().end(),
                                                      [](const auto& member) { return member.value().is_string(); });
  if (!texts) {
    problems.add({fmt::format("{}: __metadata__", file), json::described(value), "an object of texts",
                  std::string(kFetchAgain)});
  }
}

}  // namespace

std::string_view stored_type_name(StoredType type) { return kTypes[static_cast<std::size_t>(type)].name; }
int stored_type_bits(StoredType type) { return kTypes[static_cast<std::size_t>(type)].bits; }
std::string shape_text(const std::vector<std::int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

std::vector<HeaderEntry> parse_safetensors_header(std::string_view header, std::uint64_t data_bytes,
                                                  const std::string& file, Problems& problems) {
  std::vector<HeaderEntry> entries;
  json::Value value;
  try {
    value = json::parse(header, {fmt::format("{}: header", file), Radius::kStartup});
  } catch (const Error& error) {
    problems.add(error);
    return entries;
  }
  if (!header.starts_with('{') || !value.is_object()) {
    problems.add({fmt::format("{}: header", file), json::described(value), "an object that starts with the first byte",
                  std::string(kFetchAgain)});
    return entries;
  }
  std::vector<HeaderEntry> nowhere;  // their place in the file is unknown; all others cover their bytes, faulty or not
  for (const auto& member : value.get_object()) {
    const std::string_view name(member.key());
    if (name == "__metadata__") {
      check_metadata(member.value(), file, problems);
      continue;
    }
    HeaderEntry entry;
    const bool placed = read_place(name, member.value(), entry, TensorFaults(name, file, problems));
    entry.whole = placed && read_kind(member.value().get_object(), entry, TensorFaults(name, file, problems));
    (placed ? entries : nowhere).push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const HeaderEntry& a, const HeaderEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  Cover cover(data_bytes, file, problems);
  for (HeaderEntry& entry : entries) {
    entry.whole = cover.add(entry) && entry.whole;
  }
  cover.finish();
  std::move(nowhere.begin(), nowhere.end(), std::back_inserter(entries));
  return entries;
}

}  // namespace zoetrope
