#include "runtime/checkpoint/mapped_files.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>

namespace zoetrope {
namespace {

// Read by the handler, which may do no more than look at memory and write: the line is made when a file is mapped.
struct Mapping {
  std::atomic<std::uintptr_t> begin{0};  // 0: free
  std::atomic<std::uintptr_t> end{0};
  std::atomic<const std::string*> line{nullptr};
};

std::array<Mapping, 1024> mappings;
struct sigaction handler_before;

void on_bus_error(int signal, siginfo_t* info, void*) {
  if (info->si_code <= 0) {  // sent by a process: there is no address, and nothing is run again
    ::sigaction(signal, &handler_before, nullptr);
    ::raise(signal);
    return;
  }
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (const Mapping& mapping : mappings) {
    const std::string* line = mapping.line.load(std::memory_order_acquire);
    if (line != nullptr && address >= mapping.begin.load() && address < mapping.end.load()) {
      [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line->data(), line->size());
      ::_exit(1);
    }
  }
  ::sigaction(signal, &handler_before, nullptr);  // the instruction is run again and meets the handler from before
}

void install_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGBUS, &action, &handler_before);
  });
}

}  // namespace

void remember_mapping(const std::byte* memory, std::size_t bytes, const std::filesystem::path& path) {
  install_handler();
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  for (Mapping& mapping : mappings) {
    std::uintptr_t free = 0;
    if (mapping.begin.compare_exchange_strong(free, begin)) {
      mapping.end.store(begin + bytes);
      mapping.line.store(
          new std::string("zoetrope: " + path.string() + ": it shrank while it was read, expected " +
                          std::to_string(bytes) +
                          " bytes to stay; leave a checkpoint alone while it is loaded, or fetch the file again\n"),
          std::memory_order_release);
      return;
    }
  }
}

void forget_mapping(const std::byte* memory) {
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  for (Mapping& mapping : mappings) {
    if (mapping.begin.load() == begin) {
      delete mapping.line.exchange(nullptr);
      mapping.end.store(0);
      mapping.begin.store(0);
      return;
    }
  }
}

}  // namespace zoetrope
