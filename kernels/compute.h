// What every op is given first: which body computes, on which threads, in which precision.
#pragma once

#include "kernels/tensor.h"
#include "kernels/thread_pool.h"

namespace zoetrope {

struct Body;  // body.h: the table of functions of one instruction set
class TraceRecorder;  // monitoring/trace.h

struct Compute {
  const Body* body = nullptr;
  ThreadPool* pool = nullptr;
  Precision precision = Precision::kBf16;
  TraceRecorder* trace = nullptr;  // of this rank, when its steps are recorded

  bool rounds() const { return precision == Precision::kBf16; }
};

}  // namespace zoetrope
