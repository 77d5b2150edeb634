// Films made on the spot by the ffmpeg program in a temporary folder, and what that program itself decodes from them:
// an independent list of pictures to compare with.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "runtime/media/film_reader.h"
#include "runtime/media/frame_table.h"
#include "runtime/media/source.h"

namespace zoetrope::test {

inline constexpr int kFilmHeight = 64;
inline constexpr int kFilmWidth = 96;
inline constexpr std::size_t kFilmFrameBytes = std::size_t{kFilmHeight} * kFilmWidth * 3;

class FilmFolder {
 public:
  FilmFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "zoetrope-films-XXXXXX").string();
    const char* made = ::mkdtemp(pattern.data());
    EXPECT_NE(made, nullptr);
    folder_ = pattern;
  }
  ~FilmFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  FilmFolder(const FilmFolder&) = delete;
  FilmFolder& operator=(const FilmFolder&) = delete;

  std::filesystem::path path(const std::string& name) const { return folder_ / name; }

  void ffmpeg(const std::string& arguments) const {
    const std::string command = "ffmpeg -nostdin -v error -y " + arguments + " 2> " + path("log").string();
    if (std::system(command.c_str()) != 0) {
      std::ifstream log(path("log"));
      ADD_FAILURE() << command << "\n" << std::string(std::istreambuf_iterator<char>(log), {});
    }
  }

  // A moving, noisy test picture with `frames` frames at 25 a second, encoded with `coding`.
  std::filesystem::path film(const std::string& name, int frames, const std::string& coding,
                             const std::string& filter = "null") const {
    ffmpeg(
        fmt::format("-f lavfi -i testsrc2=size={}x{}:rate=25,noise=alls=12:allf=t:all_seed=7 -frames:v {} -vf \"{}\" "
                    "-pix_fmt yuv420p {} {}",
                    kFilmWidth, kFilmHeight, frames, filter, coding, path(name).string()));
    return path(name);
  }

  // Every picture of the film as the program itself decodes and converts it: [frames][64 * 96 * 3].
  std::vector<std::vector<std::uint8_t>> decoded(const std::filesystem::path& film) const {
    const std::filesystem::path raw = path("raw.rgb");
    ffmpeg(fmt::format(
        "-noautorotate -i {} -map 0:v:0 -vsync passthrough -vf scale=flags=bilinear,format=rgb24 -f rawvideo {}",
        film.string(), raw.string()));
    std::ifstream in(raw, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    EXPECT_EQ(text.size() % kFilmFrameBytes, 0U);
    std::vector<std::vector<std::uint8_t>> frames;
    for (std::size_t at = 0; at + kFilmFrameBytes <= text.size(); at += kFilmFrameBytes) {
      frames.emplace_back(text.begin() + static_cast<std::ptrdiff_t>(at),
                          text.begin() + static_cast<std::ptrdiff_t>(at + kFilmFrameBytes));
    }
    return frames;
  }

 private:
  std::filesystem::path folder_;
};

// One folder for all tests of the program.
inline const FilmFolder& films() {
  static const FilmFolder folder;
  return folder;
}

// The frames of `indices`, read one after the other by one reader.
inline std::vector<std::vector<std::uint8_t>> frames_read(FilmReader& reader,
                                                          const std::vector<std::int64_t>& indices) {
  std::vector<std::vector<std::uint8_t>> frames;
  for (const std::int64_t index : indices) {
    frames.emplace_back(kFilmFrameBytes);
    reader.read(index, frames.back());
  }
  return frames;
}

inline std::vector<std::int64_t> every(std::int64_t step, std::int64_t count, std::int64_t first = 0) {
  std::vector<std::int64_t> indices;
  for (std::int64_t i = first; i < count; i += step) {
    indices.push_back(i);
  }
  return indices;
}

}  // namespace zoetrope::test
