#include "parallel/traffic.h"

#include <fmt/format.h>

#include <algorithm>

namespace zoetrope {

void TrafficBook::add(std::string_view what, const Traffic& sent, double exposed_seconds, double hidden_seconds) {
  auto entry = std::find_if(entries_.begin(), entries_.end(), [what](const TrafficEntry& e) { return e.what == what; });
  if (entry == entries_.end()) {
    entry = entries_.insert(entries_.end(), TrafficEntry{std::string(what), 0, {}, 0, 0});
  }
  entry->exchanges += 1;
  for (Traffic* sum : {&entry->sent, &total_}) {
    sum->messages += sent.messages;
    sum->bytes += sent.bytes;
  }
  entry->exposed_seconds += exposed_seconds;
  entry->hidden_seconds += hidden_seconds;
  seconds_.exposed += exposed_seconds;
  seconds_.hidden += hidden_seconds;
}

std::string traffic_table(const std::vector<NamedBook>& books) {
  std::string text = fmt::format("{:<6} {:<44} {:>10} {:>10} {:>14} {:>11} {:>10}\n", "axis", "operation", "exchanges",
                                 "messages", "bytes sent", "exposed ms", "hidden ms");
  for (const NamedBook& named : books) {
    for (const TrafficEntry& entry : named.book->entries()) {
      text += fmt::format("{:<6} {:<44} {:>10} {:>10} {:>14} {:>11.2f} {:>10.2f}\n", named.axis, entry.what,
                          entry.exchanges, entry.sent.messages, entry.sent.bytes, entry.exposed_seconds * 1e3,
                          entry.hidden_seconds * 1e3);
    }
  }
  return text;
}

}  // namespace zoetrope
