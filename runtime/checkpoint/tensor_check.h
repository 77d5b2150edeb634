// Compares the tensors of the files with those of the configuration and with the index.
#pragma once

#include <string>
#include <vector>

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/problems.h"
#include "runtime/checkpoint/shard_index.h"

namespace zoetrope {

// Missing, misshapen, mistyped and extra tensors, scales that fail to match their weights, tensors that lie elsewhere
// than the index says: one problem each, with tensor, file, found and expected. A tensor that another problem explains
// (its file cannot be read, its entry in the header is wrong) is not reported again.
void check_tensors(const Checkpoint& checkpoint, const ShardIndex& index, Problems& problems,
                   std::vector<std::string>& notes);

}  // namespace zoetrope
