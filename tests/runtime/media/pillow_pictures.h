// The pictures of make_pillow_pictures.py: files, and what the reference's reader makes of them.
#pragma once

#include <string>
#include <vector>

#include "runtime/media/still.h"
#include "tests/runtime/media/media_folder.h"
#include "tests/safetensors_file.h"
#include "tests/source_folder.h"

namespace zoetrope::test {

inline const SafetensorsFile& pillow_pictures() {
  static const SafetensorsFile file(source_folder() / "tests" / "runtime" / "media" /
                                    "pillow_pictures.safetensors");
  return file;
}

inline std::vector<std::byte> pillow_file(const std::string& name) {
  std::vector<std::byte> bytes;
  for (const std::uint8_t v : pillow_pictures().data<std::uint8_t>("file." + name)) {
    bytes.push_back(static_cast<std::byte>(v));
  }
  return bytes;
}

// Compares all pictures whose name begins with `prefix`; returns how many there are.
inline int compare_with_pillow(const std::string& prefix) {
  int compared = 0;
  for (const std::string& tensor : pillow_pictures().names()) {
    if (!tensor.starts_with("file." + prefix)) {
      continue;
    }
    const std::string name = tensor.substr(5);
    const auto& shape = pillow_pictures().shape("rgb." + name);
    const Picture expected{static_cast<int>(shape[0]), static_cast<int>(shape[1]),
                           pillow_pictures().data<std::uint8_t>("rgb." + name)};
    try {
      expect_same(decode_still(MediaSource::memory(name, pillow_file(name))), expected, name);
    } catch (const Error& error) {
      ADD_FAILURE() << name << ": " << error.what();
    }
    const StillFacts facts = read_still_facts(MediaSource::memory(name, pillow_file(name)));
    EXPECT_EQ(facts.upright_height(), expected.height) << name;
    EXPECT_EQ(facts.upright_width(), expected.width) << name;
    ++compared;
  }
  return compared;
}

// Cuts the file at many places and flips bytes: a picture or one line, and a line for every deep cut.
inline void damage_all(const std::string& prefix) {
  for (const std::string& tensor : pillow_pictures().names()) {
    if (!tensor.starts_with("file." + prefix)) {
      continue;
    }
    const std::vector<std::byte> whole = pillow_file(tensor.substr(5));
    for (std::size_t n = 1; n < whole.size(); n += 1 + whole.size() / 40) {
      auto damaged = whole;
      damaged[n] ^= std::byte{0xa5};
      for (auto& bytes :
           {std::vector<std::byte>(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)), damaged}) {
        try {
          const Picture picture = decode_still(MediaSource::memory("damaged", bytes));
          EXPECT_EQ(picture.rgb.size(),
                    static_cast<std::size_t>(picture.height) * static_cast<std::size_t>(picture.width) * 3);
          EXPECT_GT(bytes.size() * 2, whole.size()) << tensor << " cut at " << n;
        } catch (const Error& error) {
          EXPECT_EQ(error.radius(), Radius::kRequest) << error.what();
        }
      }
    }
  }
}

}  // namespace zoetrope::test
