#include "parallel/host_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/large_memory.h"
#include "monitoring/check.h"
#include "monitoring/error.h"
#include "monitoring/log.h"
#include "parallel/collectives.h"

namespace zoetrope {
namespace {

constexpr std::size_t kHugePage = 2 << 20;

// Pages of this process's address space; zero-filled by the kernel, on whichever NUMA node touches them first.
class Mapping {
 public:
  // descriptor < 0: private memory. nullopt with errno when refused.
  static std::optional<Mapping> made(std::size_t bytes, int descriptor) {
    const int flags = descriptor < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void* const address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, descriptor, 0);
    if (address == MAP_FAILED) {
      return std::nullopt;
    }
    if (bytes >= kHugePage) {
      ::madvise(address, bytes, MADV_HUGEPAGE);  // a wish
    }
    return Mapping(address, bytes);
  }
  Mapping(Mapping&& other) noexcept : address_(std::exchange(other.address_, nullptr)), bytes_(other.bytes_) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping() {
    if (address_ != nullptr) {
      ::munmap(address_, bytes_);
    }
  }
  std::span<std::byte> bytes() const { return {static_cast<std::byte*>(address_), bytes_}; }

 private:
  Mapping(void* address, std::size_t bytes) : address_(address), bytes_(bytes) {}
  void* address_;
  std::size_t bytes_;
};

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) {
      ::close(number_);
    }
  }
  int number() const { return number_; }

 private:
  int number_;
};

[[noreturn]] void refuse_memory(std::size_t bytes, std::string_view whose, const std::string& cause) {
  refuse(Radius::kStartup, {fmt::format("{} memory for weights", whose), fmt::format("{} for {} bytes", cause, bytes),
                            "that many free bytes", "use more hosts, a smaller checkpoint or a larger memory limit"});
}

class PrivateMemory : public HostMemory {
 public:
  int local_rank() const override { return 0; }
  int local_ranks() const override { return 1; }
  std::span<std::byte> allocate(std::size_t bytes) override {
    if (bytes == 0) {
      return {};
    }
    auto mapping = Mapping::made(bytes, -1);
    if (!mapping) {
      refuse_memory(bytes, "private", std::strerror(errno));
    }
    return mappings_.emplace_back(std::move(*mapping)).bytes();
  }
  bool huge_pages() const override { return gives_huge_pages(MemoryKind::kPrivate); }
  void fence() override {}

 private:
  std::vector<Mapping> mappings_;
};

// A file without a name in a file system of its own that gives huge pages to those who ask. The system's own shared
// memory seldom does (/sys/kernel/mm/transparent_hugepage/shmem_enabled), and reading in pages of 4 KiB is slower, most
// of all where a little is computed over much memory. Needs the right to mount (root outside containers); -1 without.
int huge_page_file() {
  const Descriptor context(::fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (context.number() < 0 || ::fsconfig(context.number(), FSCONFIG_SET_STRING, "huge", "advise", 0) != 0 ||
      ::fsconfig(context.number(), FSCONFIG_SET_STRING, "size", "0", 0) != 0 ||  // no bound of its own
      ::fsconfig(context.number(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return -1;
  }
  const Descriptor mount(::fsmount(context.number(), FSMOUNT_CLOEXEC, 0));  // seen by nobody, gone with its last file
  return mount.number() < 0 ? -1 : ::openat(mount.number(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

struct NamelessFile {
  int descriptor = -1;
  bool huge = false;
};

NamelessFile nameless_file() {
  const int file = huge_page_file();
  return file >= 0 ? NamelessFile{file, true} : NamelessFile{::memfd_create("zoetrope", MFD_CLOEXEC), false};
}

// What local rank 0 tells of a region. Without a name it needs no /dev/shm, which containers keep small, and nothing is
// left over after a crash; the others open it through /proc.
struct Announcement {
  std::int64_t process = 0;
  std::int32_t descriptor = -1;
  std::int32_t error = 0;  // errno of local rank 0
  std::int64_t huge = 0;   // 1: of huge pages
  std::uint64_t bytes = 0;
  std::uint64_t device = 0;  // with `inode`: which file it is, on this kernel
  std::uint64_t inode = 0;
};

// The region that was announced, seen from another process; -1 with errno when it cannot be seen. In another container
// the same process number and descriptor may be something else: the inode tells.
int opened(const Announcement& told) {
  const int descriptor =
      ::open(fmt::format("/proc/{}/fd/{}", told.process, told.descriptor).c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
  struct stat status {};
  if (descriptor >= 0 &&
      (::fstat(descriptor, &status) != 0 || status.st_dev != told.device || status.st_ino != told.inode)) {
    ::close(descriptor);
    errno = ESTALE;
    return -1;
  }
  return descriptor;
}

class SharedMemory : public HostMemory {
 public:
  explicit SharedMemory(std::unique_ptr<Communicator> ranks) : ranks_(std::move(ranks)) {}

  int local_rank() const override { return ranks_->rank(); }
  int local_ranks() const override { return ranks_->size(); }

  std::span<std::byte> allocate(std::size_t bytes) override {
    std::string cause;
    const auto region = tried(bytes, cause);
    if (!region) {
      refuse_memory(bytes, "shared", cause);
    }
    return *region;
  }

  bool huge_pages() const override { return huge_; }
  void fence() override { barrier(*ranks_, "host memory fence"); }

  // nullopt at every rank, with the cause, when one of them could not.
  std::optional<std::span<std::byte>> tried(std::size_t bytes, std::string& cause) {
    if (bytes == 0) {
      return std::span<std::byte>();
    }
    const NamelessFile file = ranks_->rank() == 0 ? nameless_file() : NamelessFile();
    const Descriptor own(file.descriptor);
    Announcement told{.process = ::getpid(), .descriptor = own.number(), .huge = file.huge ? 1 : 0, .bytes = bytes};
    struct stat status {};
    if (ranks_->rank() == 0 && (own.number() < 0 || ::ftruncate(own.number(), static_cast<off_t>(bytes)) != 0 ||
                                ::fstat(own.number(), &status) != 0)) {
      told.error = errno;
    }
    told.device = status.st_dev;
    told.inode = status.st_ino;
    const auto heard = broadcast(*ranks_, std::as_bytes(std::span(&told, 1)), 0, "host memory");
    check_eq(heard.size(), sizeof(told), "an announcement has its size");
    std::memcpy(&told, heard.data(), sizeof(told));
    check_eq(told.bytes, std::uint64_t{bytes}, "ranks of a host allocate the same bytes");
    huge_ = told.huge != 0 && gives_huge_pages(MemoryKind::kSharedAdvised);
    std::int32_t error = told.error;
    std::optional<Mapping> mapping;
    if (error == 0) {
      const Descriptor theirs(ranks_->rank() == 0 ? -1 : opened(told));
      const int descriptor = ranks_->rank() == 0 ? own.number() : theirs.number();
      mapping = descriptor < 0 ? std::nullopt : Mapping::made(bytes, descriptor);
      error = mapping ? 0 : errno;
    }
    // Also the moment until which local rank 0 keeps its descriptor open.
    const auto errors = all_gather(*ranks_, std::as_bytes(std::span(&error, 1)), "host memory");
    for (std::size_t r = 0; r < errors.size(); ++r) {
      std::memcpy(&error, errors[r].data(), sizeof(error));
      if (error != 0) {
        cause = fmt::format("{} at local rank {}", std::strerror(error), r);
        return std::nullopt;
      }
    }
    return mappings_.emplace_back(std::move(*mapping)).bytes();
  }

 private:
  std::unique_ptr<Communicator> ranks_;
  std::vector<Mapping> mappings_;
  bool huge_ = false;  // of the last region
};

}  // namespace

std::unique_ptr<HostMemory> private_memory() { return std::make_unique<PrivateMemory>(); }

std::unique_ptr<HostMemory> memory_of_host(std::unique_ptr<Communicator> host_ranks) {
  if (host_ranks->size() == 1) {
    return private_memory();
  }
  const bool first = host_ranks->rank() == 0;
  auto shared = std::make_unique<SharedMemory>(std::move(host_ranks));
  std::string cause;
  if (shared->tried(sizeof(std::uint64_t), cause)) {  // a region to try whether they see each other
    return shared;
  }
  if (first) {
    log::warning("host_memory_private",
                 {{"cause", cause}, {"effect", "every rank holds its own copy of shared weights"}});
  }
  return private_memory();
}

}  // namespace zoetrope
