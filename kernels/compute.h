// What every op is given first: which body computes, on which threads, in which precision.
#pragma once

#include <functional>

#include "kernels/tensor.h"
#include "kernels/thread_pool.h"

namespace zoetrope {

struct Body;  // body.h: the table of functions of one instruction set
class TraceRecorder;  // monitoring/trace.h

struct Compute {
  const Body* body = nullptr;
  ThreadPool* pool = nullptr;
  Precision precision = Precision::kBf16;
  // Called now and then by the calling thread during attention, between pages: messages that move meanwhile. May be
  // null.
  const std::function<void()>* between = nullptr;
  TraceRecorder* trace = nullptr;  // of this rank, where its phases are noted or recorded

  bool rounds() const { return precision == Precision::kBf16; }
};

}  // namespace zoetrope
