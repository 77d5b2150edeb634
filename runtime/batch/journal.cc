#include "runtime/batch/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

[[noreturn]] void refuse_file(const std::filesystem::path& file, std::string_view action, std::string remedy,
                              std::string expected = "a file that can be written") {
  refuse(Radius::kStartup,
         {fmt::format("{}: {}", file.string(), action), std::strerror(errno), std::move(expected), std::move(remedy)});
}

// All of it: what were left out would be cut away as torn.
std::string contents(int descriptor, std::size_t bytes, const std::filesystem::path& file) {
  std::string text(bytes, '\0');
  for (std::size_t at = 0; at < bytes;) {
    const ssize_t read = ::pread(descriptor, text.data() + at, bytes - at, static_cast<off_t>(at));
    if (read < 0 && errno == EINTR) {
      continue;
    }
    if (read <= 0) {
      errno = read == 0 ? EIO : errno;  // nobody else may shorten it: it is locked
      refuse_file(file, fmt::format("reading the answers at byte {}", at), "copy the file to another disk",
                  "a file that can be read to its end");
    }
    at += static_cast<std::size_t>(read);
  }
  return text;
}

void write_all(int descriptor, std::string_view text, const std::filesystem::path& file) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written <= 0) {
      refuse_file(
          file, "writing an answer",
          errno == EFBIG
              ? "raise 'ulimit -f' or name a disk that takes larger files, then run again: answered lines are kept"
              : "free space on the disk, then run again: answered lines are kept");
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

constexpr int kOpenTries = 100;

// Whether `file` is still the one that was opened: another run may have replaced it before it was locked.
bool is_named(int descriptor, const std::filesystem::path& file) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(descriptor, &opened) == 0 && ::stat(file.c_str(), &named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

}  // namespace

Journal::Journal(std::filesystem::path file, bool retry_errors) : file_(std::move(file)) {
  for (int tries = 1;; ++tries) {
    descriptor_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND, 0644);
    if (descriptor_ < 0) {
      refuse_file(file_, "opening the answers", "check the folder and its permissions");
    }
    const bool locked = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
    if (!locked && errno != EWOULDBLOCK) {
      refuse_file(file_, "locking the answers", "name an --output on a file system that has locks",
                  "a file that can be locked");
    }
    if (locked && is_named(descriptor_, file_)) {
      break;
    }
    ::close(descriptor_);
    descriptor_ = -1;
    if (!locked || tries == kOpenTries) {
      refuse(Radius::kStartup,
             {file_.string(), locked ? "a file that is replaced again and again" : "a file that another run is writing",
              "one run at a time for one output file", "wait for the other run or name another --output"});
    }
  }
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    return;  // a pipe or a device keeps no answers: nothing to read, and never to be replaced by a file
  }
  regular_ = true;
  const std::string text = contents(descriptor_, static_cast<std::size_t>(status.st_size), file_);
  const std::size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
  torn_bytes_ = text.size() - whole;
  std::string kept;
  std::size_t line_number = 0;
  for (std::size_t at = 0; at < whole;) {
    const std::size_t end = text.find('\n', at);
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    ++line_number;
    const json::Source source{fmt::format("{} line {}", file_.string(), line_number), Radius::kStartup};
    const json::Value value = json::parse(line, source);
    const json::Fields record(value, source);
    if (retry_errors && record.has("error")) {
      continue;
    }
    const json::Value* error = value.as_object().if_contains("error");
    const json::Value* code = error != nullptr && error->is_object() ? error->as_object().if_contains("code") : nullptr;
    if (const bool repeated = code != nullptr && *code == kRepeatedId; !repeated && record.has("custom_id")) {
      answered_.insert(record.text("custom_id"));
    } else if (record.has("id")) {
      failed_lines_.insert(record.text("id"));
    }
    kept.append(line).push_back('\n');
  }
  if (kept.size() != text.size()) {
    // Replaced as a whole, so that a crash here leaves either the old file or the new one; a link stays one.
    file_ = std::filesystem::canonical(file_);
    const std::filesystem::path fresh = file_.string() + ".new";
    const int out = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_APPEND, 0644);
    if (out < 0) {
      refuse_file(fresh, "rewriting the answers", "check the folder and its permissions");
    }
    write_all(out, kept, fresh);
    if (::fsync(out) != 0 || ::flock(out, LOCK_EX | LOCK_NB) != 0 || ::rename(fresh.c_str(), file_.c_str()) != 0) {
      refuse_file(file_, "replacing the answers", "check the folder and its permissions");
    }
    ::close(descriptor_);
    descriptor_ = out;
  }
}

Journal::~Journal() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

std::exception_ptr Journal::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void Journal::append(const json::Object& record) {
  const std::string line = boost::json::serialize(record) + "\n";
  const std::lock_guard lock(mutex_);
  if (failure_) {
    std::rethrow_exception(failure_);
  }
  const off_t whole = regular_ ? ::lseek(descriptor_, 0, SEEK_END) : -1;
  try {
    write_all(descriptor_, line, file_);
    if (::fdatasync(descriptor_) != 0 && errno != EINVAL && errno != EROFS) {  // pipes and devices cannot be synced
      refuse_file(file_, "flushing an answer", "check the disk, then run again: answered lines are kept");
    }
  } catch (...) {
    failure_ = std::current_exception();  // another record behind a torn one would make one that nobody can read
    if (whole >= 0 && ::ftruncate(descriptor_, whole) != 0) {
      // What stays is the torn end of the file, which the next run cuts away.
    }
    throw;
  }
}

}  // namespace zoetrope
