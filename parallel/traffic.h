// What was said and what it cost, by operation: bytes, messages and the seconds that an exchange was waited for or
// passed under other work. Each communicator keeps a book; the axes of a layout have communicators of their own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace zoetrope {

// What a rank has sent, for the counters and the tests of closed forms. Messages to itself are not counted.
struct Traffic {
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;
  bool operator==(const Traffic&) const = default;
};

// One operation of a communicator.
struct TrafficEntry {
  std::string what;
  std::uint64_t exchanges = 0;
  Traffic sent;
  double exposed_seconds = 0;  // in exchange() or Exchange::wait()
  double hidden_seconds = 0;   // from post() until it was waited for or found done
};

// Seconds of the exchanges of a communicator, as in its entries.
struct TransferSeconds {
  double exposed = 0, hidden = 0;
  bool operator==(const TransferSeconds&) const = default;
};

class TrafficBook {
 public:
  void add(std::string_view what, const Traffic& sent, double exposed_seconds, double hidden_seconds);
  Traffic total() const { return total_; }
  TransferSeconds seconds() const { return seconds_; }
  const std::vector<TrafficEntry>& entries() const { return entries_; }  // in order of first use

 private:
  std::vector<TrafficEntry> entries_;
  Traffic total_;
  TransferSeconds seconds_;
};

// A table of entries, one line each: axis, operation, exchanges, messages, bytes, seconds exposed and hidden.
struct NamedBook {
  std::string_view axis;
  const TrafficBook* book;
};
std::string traffic_table(const std::vector<NamedBook>& books);

}  // namespace zoetrope
