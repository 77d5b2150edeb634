// What travels to and from every member of the ring in one exchange of rows, and who asks after exchanges meanwhile.
// Inner to ring attention.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "kernels/tensor.h"
#include "parallel/bf16_wire.h"
#include "parallel/communicator.h"

namespace zoetrope {

// Rows for and from every member, packed in the order in which they are put and taken.
class RingWire {
 public:
  RingWire(int members, bool as_bf16) : as_bf16_(as_bf16), out_(at(members)), in_(at(members)), read_(at(members), 0) {}

  void put_row(int member, const float* values, std::int64_t count) {
    to_wire(values, count, as_bf16_, extended(out_[at(member)], bytes(count)));
  }
  void expect_rows(int member, std::int64_t count) { extended(in_[at(member)], bytes(count)); }
  void take_row(int member, float* values, std::int64_t count) {
    std::size_t& read = read_[at(member)];
    from_wire(in_[at(member)].data() + read, count, as_bf16_, values);
    read += bytes(count);
  }
  // The exchange's memory is this object's.
  Exchange post(Communicator& ring, std::string_view what) {
    std::vector<SendPart> sends;
    std::vector<ReceivePart> receives;
    for (int member = 0; member < ring.size(); ++member) {
      sends.push_back({member, out_[at(member)]});
      receives.push_back({member, in_[at(member)]});
    }
    return ring.post(sends, receives, what);
  }

 private:
  static std::size_t at(int index) { return static_cast<std::size_t>(index); }
  std::size_t bytes(std::int64_t values) const {
    return static_cast<std::size_t>(values) * (as_bf16_ ? sizeof(Bf16) : sizeof(float));
  }
  static std::byte* extended(std::vector<std::byte>& bytes, std::size_t more) {
    bytes.resize(bytes.size() + more);
    return bytes.data() + bytes.size() - more;
  }

  bool as_bf16_;
  std::vector<std::vector<std::byte>> out_, in_;
  std::vector<std::size_t> read_;
};

// Asks after exchanges between pages of attention, so that they move under it: Compute::between. At most once in
// kPeriod, because asking costs about a microsecond.
class Meanwhile {
 public:
  explicit Meanwhile(std::array<Exchange*, 2> exchanges) : ask_([this, exchanges] { ask(exchanges); }) {}
  Meanwhile(const Meanwhile&) = delete;
  Meanwhile& operator=(const Meanwhile&) = delete;

  const std::function<void()>* between() const { return &ask_; }

 private:
  static constexpr std::chrono::microseconds kPeriod{100};

  void ask(const std::array<Exchange*, 2>& exchanges) {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) {
      return;
    }
    for (Exchange* exchange : exchanges) {
      if (exchange != nullptr) {
        exchange->test();
      }
    }
    next_ = std::chrono::steady_clock::now() + kPeriod;
  }

  std::function<void()> ask_;
  std::chrono::steady_clock::time_point next_ = {};
};

}  // namespace zoetrope
