// Failure as a value that says what to do. Three kinds exist in the house:
//   a broken invariant      check.h, prints both sides and aborts;
//   a refusal or a failure  Error, thrown once where it is detected, with the radius of what it broke;
//   a wrong command line    UsageError, exit code 2.
// A handler catches exactly its radius (a batch line catches kRequest) and lets larger ones pass.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace zoetrope {

// The largest thing that a failure makes useless.
enum class Radius {
  kRequest,  // this request only: bad media, a prompt longer than the context
  kStartup,  // this program's start: checkpoint, layout, settings
  kCluster,  // the whole MPI job: a lost rank, a broken collective
};

// The four parts of every message a user sees. Rendered as "<what>: found <found>, expected <expected>; <remedy>".
struct Complaint {
  std::string what;      // what is wrong and where: file, tensor, field, rank
  std::string found;     // the value seen
  std::string expected;  // what would have been right
  std::string remedy;    // what to change
};

class Error : public std::runtime_error {
 public:
  Error(Radius radius, const Complaint& complaint);
  Error(Radius radius, const std::string& message);
  Radius radius() const { return radius_; }

 private:
  Radius radius_;
};

// A wrong flag or argument: exit code 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

[[noreturn]] void refuse(Radius radius, Complaint complaint);

// Text safe to print in a one-line message: control characters and bytes that are not UTF-8 escaped, at most
// `characters_max` characters kept.
std::string quoted(std::string_view text, std::size_t characters_max = 80);

// A whole message as one line: what it quotes unescaped (a path with a newline) is made visible as in quoted().
std::string one_line(std::string_view text);

// The one place where a failure is printed: "zoetrope: <message>", one line on standard error.
void print_failure(std::string_view message);

}  // namespace zoetrope
