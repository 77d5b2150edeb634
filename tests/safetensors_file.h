// A safetensors file for tests: read whole, tensors by name. Independent of runtime/checkpoint, so it can test that
// too. Throws std::runtime_error with the name of the file and tensor on anything unexpected.
#pragma once

#include <boost/json.hpp>

#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "tests/golden/tally.h"

namespace zoetrope::test {

class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path) : path_(path.string()) {
    std::ifstream in(path, std::ios::binary);
    if (!in) {
      throw std::runtime_error("cannot open " + path_);
    }
    bytes_.assign(std::istreambuf_iterator<char>(in), {});
    std::uint64_t header_bytes = 0;
    if (bytes_.size() < sizeof header_bytes) {
      throw std::runtime_error(path_ + " is too short");
    }
    std::memcpy(&header_bytes, bytes_.data(), sizeof header_bytes);
    if (header_bytes > bytes_.size() - sizeof header_bytes) {
      throw std::runtime_error(path_ + ": the header is longer than the file");
    }
    data_at_ = sizeof header_bytes + header_bytes;
    const auto header = boost::json::parse({bytes_.data() + sizeof header_bytes, header_bytes}).as_object();
    for (const auto& [name, value] : header) {
      if (name != "__metadata__") {
        add(std::string(name), value.as_object());
      }
    }
  }

  bool has(const std::string& name) const { return entries_.contains(name); }
  std::vector<std::string> names() const {  // sorted
    std::vector<std::string> all;
    for (const auto& [name, entry] : entries_) {
      all.push_back(name);
    }
    return all;
  }
  const std::vector<std::int64_t>& shape(const std::string& name) const { return entry(name).shape; }
  const std::string& dtype(const std::string& name) const {
    return entry(name).dtype;
  }  // "F32", "BF16", "U8", "I32" ...
  std::int64_t count(const std::string& name) const {
    std::int64_t n = 1;
    for (const std::int64_t side : shape(name)) {
      n *= side;
    }
    return n;
  }

  // The elements in row-major order. T has the size of the stored type: float for F32, std::uint16_t for the bits of
  // BF16, std::uint8_t for U8 and F8_E4M3, std::int32_t for I32.
  template <typename T>
  std::vector<T> data(const std::string& name) const {
    static_assert(std::is_trivially_copyable_v<T>);
    const Entry& e = entry(name);
    const bool floating = e.dtype == "F32" || e.dtype == "F64";
    if (static_cast<std::uint64_t>(count(name)) * sizeof(T) != e.end - e.begin ||
        floating != std::is_floating_point_v<T>) {
      throw std::runtime_error(path_ + ": " + name + " is " + e.dtype + ", asked for another type");
    }
    std::vector<T> out(static_cast<std::size_t>(count(name)));
    compared(path_, count(name));
    if (!out.empty()) {
      std::memcpy(out.data(), bytes_.data() + data_at_ + e.begin, e.end - e.begin);
    }
    return out;
  }

  // F32 as it is, BF16 and integers widened.
  std::vector<float> floats(const std::string& name) const {
    const std::string& type = dtype(name);
    if (type == "F32") {
      return data<float>(name);
    }
    std::vector<float> out;
    if (type == "BF16") {
      for (const std::uint16_t bits : data<std::uint16_t>(name)) {
        out.push_back(std::bit_cast<float>(std::uint32_t{bits} << 16));
      }
    } else if (type == "U8") {
      for (const std::uint8_t v : data<std::uint8_t>(name)) {
        out.push_back(static_cast<float>(v));
      }
    } else if (type == "I32") {
      for (const std::int32_t v : data<std::int32_t>(name)) {
        out.push_back(static_cast<float>(v));
      }
    } else {
      throw std::runtime_error(path_ + ": " + name + " is " + type + ", which floats() does not widen");
    }
    return out;
  }

 private:
  struct Entry {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0;  // bytes after the header
    std::uint64_t end = 0;
  };

  void add(std::string name, const boost::json::object& object) {
    Entry e;
    e.dtype = std::string(object.at("dtype").as_string());
    for (const auto& side : object.at("shape").as_array()) {
      e.shape.push_back(side.to_number<std::int64_t>());
    }
    e.begin = object.at("data_offsets").at(0).to_number<std::uint64_t>();
    e.end = object.at("data_offsets").at(1).to_number<std::uint64_t>();
    if (e.begin > e.end || e.end > bytes_.size() - data_at_) {
      throw std::runtime_error(path_ + ": " + name + " reaches beyond the file");
    }
    entries_.emplace(std::move(name), std::move(e));
  }

  const Entry& entry(const std::string& name) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) {
      throw std::runtime_error(path_ + " holds no tensor " + name);
    }
    return found->second;
  }

  std::string path_;
  std::vector<char> bytes_;
  std::uint64_t data_at_ = 0;
  std::map<std::string, Entry> entries_;
};

}  // namespace zoetrope::test
