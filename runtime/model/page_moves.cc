#include "runtime/model/page_moves.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "monitoring/check.h"
#include "monitoring/trace.h"

namespace zoetrope {
namespace {

// Layers under way behind one that has arrived. The first layer goes alone, so that nothing delays it: it is needed at
// once.
constexpr int kLayersAhead = 2;
// How often attention asks after messages: asking costs about a microsecond.
constexpr std::chrono::microseconds kPeriod{100};

}  // namespace

PageMoves::PageMoves(const KvCache& cache, int layers, Communicator& ring, const Compute& compute)
    : cache_(cache),
      layers_(layers),
      ring_(ring),
      compute_(compute),
      between_([this] {
        if (std::chrono::steady_clock::now() >= next_poll_) {
          poll();
          next_poll_ = std::chrono::steady_clock::now() + kPeriod;
        }
      }),
      next_(layers) {}

void PageMoves::begin(const Span& span, std::vector<PageMove> moves, bool by_messages) {
  check(own_.empty() && under_way_.empty(), "pages of one growth are under way at a time");
  const int own = ring_.rank();
  std::erase_if(moves, [own](const PageMove& move) { return move.from != own && move.to != own; });
  own_ = std::move(moves);
  gives_ = std::ranges::any_of(own_, [own](const PageMove& move) { return move.from == own; });
  check(!gives_ || std::ranges::all_of(own_, [own](const PageMove& move) { return move.from == own; }),
        "a member gives pages or takes some");
  next_ = own_.empty() ? layers_ : 0;
  copies_ = !by_messages && layers_ > 0 && cache_.ring_layer(0).shared_by(span);
  posted_ = 0;
  if (!copies_) {
    post_before(own_.empty() ? 0 : 1);
    return;
  }
  for (int layer = 0; layer < layers_; ++layer) {
    copy(layer, true);
  }
}

// Posts the layers that are not yet and lie before `end`.
void PageMoves::post_before(int end) {
  for (; posted_ < std::min(end, layers_); ++posted_) {
    post(posted_);
  }
}

void PageMoves::post(int layer) {
  const KvPages pages = cache_.layer(layer);
  const std::size_t bytes = cache_.layout().page_bytes();
  std::vector<SendPart> sends;
  std::vector<ReceivePart> receives;
  for (const PageMove& move : own_) {
    if (gives_) {
      sends.push_back({move.to, {pages.page(move.source), bytes}});
    } else {
      receives.push_back({move.from, {pages.page(move.target), bytes}});
    }
  }
  under_way_.push_back(ring_.post(sends, receives, "pages of a span that grows"));
}

// Takes the pages of a layer from where they lie in the pool of another member.
void PageMoves::copy(int layer, bool written) {
  if (gives_) {
    return;
  }
  std::vector<const PageMove*> wanted;
  for (const PageMove& move : own_) {
    if (move.written == written) {
      wanted.push_back(&move);
    }
  }
  const RingPages pages = cache_.ring_layer(layer);
  compute_.pool->parallel_for(static_cast<std::int64_t>(wanted.size()), [&](std::int64_t i, int) {
    const PageMove& move = *wanted[static_cast<std::size_t>(i)];
    std::memcpy(pages.own.page(move.target), pages.all.page(pages.number(move.from, move.source)),
                cache_.layout().page_bytes());
  });
}

void PageMoves::arrive(int layer) {
  if (layer != next_) {
    check(layer < next_, "pages arrive in the order of layers");
    return;
  }
  const Traced traced(compute_.trace, TracePhase::kGrow, layer);
  ++next_;
  if (copies_) {
    copy(layer, false);
    return;
  }
  if (gives_) {
    poll();  // its pages stay what they are: nobody needs to wait here
  } else {
    under_way_.front().wait();
    under_way_.pop_front();
  }
  post_before(layer + 1 + kLayersAhead);
}

void PageMoves::poll() {
  for (Exchange& layer : under_way_) {
    if (!layer.test()) {
      break;  // that asked after all of them
    }
  }
  while (gives_ && !under_way_.empty() && under_way_.front().test()) {
    under_way_.pop_front();
  }
}

void PageMoves::finish() {
  while (next_ < layers_) {
    arrive(next_);
  }
  for (; !under_way_.empty(); under_way_.pop_front()) {
    under_way_.front().wait();
  }
  own_.clear();
}

}  // namespace zoetrope
