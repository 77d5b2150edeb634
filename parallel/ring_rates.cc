#include "parallel/ring_rates.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <vector>

#include "kernels/attention_walk.h"
#include "monitoring/check.h"
#include "parallel/collectives.h"
#include "parallel/ring_partials.h"
#include "parallel/ring_wire.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kPagesMin = 8;
constexpr int kMessages = 8;  // in a row: one alone may have come before it was waited for

double seconds_of(const std::function<void()>& run) {
  const auto begun = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

// The quickest of a few: other work on the machine only ever adds. A short run is repeated, to outlast the clock's
// grain.
double quickest(const std::function<void()>& run) {
  const int count = seconds_of(run) < 20e-6 ? 20 : 1;
  double best = 1e9;
  for (int turn = 0; turn < 4; ++turn) {
    best = std::min(best, seconds_of([&] {
                            for (int i = 0; i < count; ++i) {
                              run();
                            }
                          }) / count);
  }
  return best;
}

// Some pages of zeros and rows that look at all of them.
class Attention {
 public:
  // Every thread has a page or two.
  static std::int64_t pages_for(const Compute& compute) {
    return std::clamp<std::int64_t>(2 * compute.pool->threads(), kPagesMin, kPageClasses);
  }
  Attention(const Compute& compute, const KvLayout& layout, int heads, std::int64_t rows)
      : compute_(compute),
        layout_(layout),
        rows_(rows),
        columns_(std::int64_t{heads} * layout.head_dim),
        pages_(static_cast<std::size_t>(pages_for(compute)) * layout.page_bytes()),
        q_(static_cast<std::size_t>(rows * columns_)),
        positions_(static_cast<std::size_t>(rows), pages_for(compute) * kPageTokens - 1),
        partials_(spare_, rows, heads, layout.head_dim) {
    for (std::int64_t page = 0; page < pages_for(compute); ++page) {
      refs_.push_back({.page_id = page,
                       .first_position = page * kPageTokens,
                       .page_class = static_cast<int>(page),
                       .valid_rows = kPageTokens});
    }
  }
  void run(const std::function<void()>* between = nullptr) {
    Compute computing = compute_;
    computing.between = between;
    attention_partials(computing, layout_, {pages_.data(), layout_.page_bytes()},
                       {.q = {q_.data(), rows_, columns_}, .positions = positions_, .pages = refs_, .out = {}}, 0, 1,
                       partials_.view());
  }

 private:
  Compute compute_;
  KvLayout layout_;
  std::int64_t rows_, columns_;
  std::vector<std::byte> pages_;
  std::vector<float> q_;
  std::vector<std::int64_t> positions_;
  std::vector<PageRef> refs_;
  SparePartials spare_;
  Partials partials_;
};

// A line through the times of a page with one position in the tile and with a full one.
void measure_attention(RingRates& rates, const Compute& compute, const KvLayout& layout, int heads) {
  const int group = heads / layout.kv_heads, positions = std::max(2, kTileRows / group);
  Attention one(compute, layout, heads, 1), full(compute, layout, heads, positions);
  const double pages = static_cast<double>(Attention::pages_for(compute)) * layout.kv_heads;
  const double first = quickest([&] { one.run(); }) / pages, last = quickest([&] { full.run(); }) / pages;
  rates.row_seconds = std::max(0.0, last - first) / ((positions - 1) * group);
  rates.page_seconds = std::max(first - group * rates.row_seconds, 1e-9);

  constexpr std::int64_t kRows = 64;
  SparePartials spare;
  Partials a(spare, kRows, heads, layout.head_dim), b(spare, kRows, heads, layout.head_dim);
  std::ranges::fill(a.bytes(), std::byte{0});
  std::ranges::fill(b.bytes(), std::byte{0});
  rates.partial_seconds = quickest([&] { merge_partials(compute, layout.head_dim, a.view(), b.view()); }) / kRows;
}

// This member sends to `next` and receives from `before`; where they are itself it has nobody and waits for the others.
void measure_messages(RingRates& rates, Communicator& ring, int next, int before, const Compute& compute,
                      const KvLayout& layout, int heads) {
  const std::size_t bytes = std::max<std::size_t>(layout.page_bytes(), std::size_t{1} << 18);
  std::vector<std::byte> out(4 * bytes), in(4 * bytes);
  const auto post = [&](std::size_t size, std::size_t parts) {
    std::vector<SendPart> sends;
    std::vector<ReceivePart> receives;
    for (std::size_t part = 0; part < parts && next != ring.rank(); ++part) {
      sends.push_back({next, std::span(out).subspan(part * bytes, size)});
      receives.push_back({before, std::span(in).subspan(part * bytes, size)});
    }
    return ring.post(sends, receives, "rates of the ring");
  };
  double message = 1e9, pages = 1e9, work = 1e9, together = 1e9;
  // As long as about three transfers, on every member: it is their messages that must move meanwhile.
  const std::int64_t rows = std::max(1, 4 * kTileRows / std::max(1, heads / layout.kv_heads));
  Attention attention(compute, layout, heads, rows);
  // Members leave a barrier of the whole ring as far apart as its slowest message: who talk to each other meet again.
  const auto meet = [&] {
    barrier(ring, "rates of the ring");
    post(1, 1).wait();
  };
  for (int turn = 0; turn < 6; ++turn) {
    meet();
    message = std::min(message, seconds_of([&] {
                                  for (int i = 0; i < kMessages; ++i) {
                                    post(1, 1).wait();
                                  }
                                }) / kMessages);
    meet();
    pages = std::min(pages, seconds_of([&] { post(bytes, 4).wait(); }));
    work = std::min(work, seconds_of([&] { attention.run(); }));
    meet();
    together = std::min(together, seconds_of([&] {
                          Exchange exchange = post(bytes, 4);
                          const Meanwhile meanwhile({&exchange, nullptr});
                          attention.run(meanwhile.between());
                          exchange.wait();
                        }));
  }
  const double travel = std::max(pages - message, 1e-9);
  rates.message_seconds = message;
  rates.byte_seconds = travel / static_cast<double>(4 * bytes);
  rates.hidden = std::clamp((work + travel - together) / std::min(travel, work), 0.0, 1.0);
}

}  // namespace

RingRates measured_rates(Communicator& ring, const Compute& compute, const KvLayout& layout, int heads) {
  RingRates rates;
  if (ring.size() == 1) {
    return rates;
  }
  measure_attention(rates, compute, layout, heads);
  measure_messages(rates, ring, (ring.rank() + 1) % ring.size(), (ring.rank() + ring.size() - 1) % ring.size(), compute,
                   layout, heads);
  const auto told = broadcast(ring, std::as_bytes(std::span(&rates, 1)), 0, "rates of the ring");
  check_eq(told.size(), sizeof(rates), "rates have their size");
  std::memcpy(&rates, told.data(), sizeof(rates));
  return rates;
}

RingRates rates_within_hosts(Communicator& ring, const Compute& compute, const KvLayout& layout, int heads,
                             RingRates rates, std::span<const std::int32_t> hosts) {
  check_eq(std::ssize(hosts), std::int64_t{ring.size()}, "every member has a host");
  // Of each host the first with the second, the third with the fourth ...
  std::vector<int> partner(hosts.size());
  std::map<std::int32_t, int> alone;
  int teller = -1;
  for (int member = 0; member < ring.size(); ++member) {
    partner[static_cast<std::size_t>(member)] = member;
    const auto [at, fresh] = alone.emplace(hosts[static_cast<std::size_t>(member)], member);
    if (!fresh) {
      partner[static_cast<std::size_t>(member)] = at->second;
      partner[static_cast<std::size_t>(at->second)] = member;
      teller = teller < 0 ? at->second : std::min(teller, at->second);
      alone.erase(at);
    }
  }
  if (teller < 0) {
    return {};
  }
  const int own = partner[static_cast<std::size_t>(ring.rank())];
  measure_messages(rates, ring, own, own, compute, layout, heads);
  const auto told = broadcast(ring, std::as_bytes(std::span(&rates, 1)), teller, "rates within hosts");
  check_eq(told.size(), sizeof(rates), "rates have their size");
  std::memcpy(&rates, told.data(), sizeof(rates));
  return rates;
}

}  // namespace zoetrope
