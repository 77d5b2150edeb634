// What a person sees while the program works: one moving line on a terminal, plain lines in a pipe. Standard error
// only; standard output carries answers.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace zoetrope {

bool standard_error_is_terminal();

// "3.2 s", "4 min 10 s", "2 h 3 min".
std::string human_seconds(double seconds);
// "12.3 MiB".
std::string human_bytes(double bytes);
// Rate of an answer in tokens per second: `tokens` drawn, the last of them `seconds` after the first; 0 where there is
// none.
double answer_rate(std::int64_t tokens, double seconds);

class Progress {
 public:
  // shown: false on ranks that stay silent. unit: "tokens", "frames", "%".
  Progress(std::string title, std::string unit, bool shown);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // On a terminal at most ten times a second, in a pipe at most every ten seconds; with rate and time left.
  void update(double done, double total);
  // Ends the moving line; the last state stays visible only in a pipe.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  std::string title_, unit_;
  bool shown_, terminal_;
  bool drawn_ = false;
  Clock::time_point started_ = Clock::now(), last_{};
};

}  // namespace zoetrope
