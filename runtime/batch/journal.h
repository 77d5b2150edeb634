// The output file of a batch: one JSON record a line, appended and flushed as answers finish, so that a run that was
// cut off loses nothing that was answered. A torn last line (power loss in the middle of a write) is cut away when it
// is opened.
#pragma once

#include <exception>
#include <filesystem>
#include <mutex>
#include <set>
#include <string>

#include "runtime/json/json.h"

namespace zoetrope {

// The code of the error of a line whose custom_id stands on an earlier one.
inline constexpr const char* kRepeatedId = "repeated_custom_id";

class Journal {
 public:
  // Opens or creates `file`, reads the custom_ids that are answered. retry_errors: records of errors are dropped first
  // (the file is replaced atomically). Error(kStartup) on a line that is no record.
  Journal(std::filesystem::path file, bool retry_errors);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  const std::set<std::string>& answered() const { return answered_; }
  // Ids (batch_req_LINE) of recorded lines that have no custom_id of their own: none, or the one of an earlier line,
  // whose answer such a record is not.
  const std::set<std::string>& failed_lines() const { return failed_lines_; }
  std::size_t torn_bytes() const { return torn_bytes_; }  // cut away at the end, to be said to the user

  // Of the first record that could not be written: no other is taken. Thread-safe.
  std::exception_ptr failure() const;

  // Appends one record and flushes it to the device. Thread-safe. Error(kStartup) when the disk refuses; what was
  // written of the record is taken back, and no other is taken from then on.
  void append(const json::Object& record);

 private:
  std::filesystem::path file_;
  std::set<std::string> answered_, failed_lines_;
  std::size_t torn_bytes_ = 0;
  mutable std::mutex mutex_;
  int descriptor_ = -1;
  bool regular_ = false;        // no pipe or device
  std::exception_ptr failure_;  // mutex_; of the first record that could not be written
};

}  // namespace zoetrope
