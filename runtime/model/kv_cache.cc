#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/large_memory.h"
#include "monitoring/check.h"
#include "monitoring/error.h"
#include "runtime/model/model.h"

namespace zoetrope {
namespace {

// layers * pages * page_bytes, refused where the product leaves the address space.
std::size_t cache_bytes(const KvLayout& layout, int layers, std::int32_t pages) {
  check(layers >= 0 && pages >= 0, "a KV cache has no negative sizes");
  const std::size_t per_page = KvCache::bytes_per_page(layout, layers);
  if (per_page != 0 && static_cast<std::size_t>(pages) > std::numeric_limits<std::ptrdiff_t>::max() / per_page) {
    refuse(Radius::kStartup, {.what = "size of the KV cache",
                              .found = fmt::format("{} pages of {} bytes", pages, per_page),
                              .expected = "a product below 2^63",
                              .remedy = "ask for fewer pages"});
  }
  return per_page * static_cast<std::size_t>(pages);
}

}  // namespace

KvCache::KvCache(const KvLayout& layout, int layers, std::int32_t pages)
    : layout_(layout),
      layers_(layers),
      pages_(pages),
      memory_(cache_bytes(layout, layers, pages), "the KV cache"),
      own_(memory_.data()) {}

KvCache::KvCache(const KvLayout& layout, int layers, std::int32_t pages, Ranks& ranks, RingTransport transport)
    : layout_(layout),
      layers_(layers),
      pages_(pages),
      ring_memory_(*ranks.ring, ranks.host_name, cache_bytes(layout, layers, pages), transport) {
  if (ring_memory_.pools().empty()) {
    memory_ = AnonymousMemory(cache_bytes(layout, layers, pages), "the KV cache");
    own_ = memory_.data();
    return;
  }
  own_ = ring_memory_.own().data();
  for (const int place : ring_memory_.places()) {
    first_page_.push_back(place < 0 ? -1 : std::int64_t{place} * layers * pages);
  }
}

std::size_t KvCache::bytes_per_page(const KvLayout& layout, int layers) {
  return layout.page_bytes() * static_cast<std::size_t>(layers);
}

std::int64_t KvCache::resident_bytes(std::int64_t pages) const {
  const bool shared = memory_.data() == nullptr;
  const bool huge = shared ? ring_memory_.huge_pages() : gives_huge_pages(MemoryKind::kPrivate);
  const std::int64_t system_page = huge ? std::int64_t{2} << 20 : 1;
  const std::int64_t origin = shared ? own_ - ring_memory_.pools().data() : 0;
  const auto all = static_cast<std::int64_t>(shared ? ring_memory_.pools().size() : memory_.bytes());
  const auto page_bytes = static_cast<std::int64_t>(layout_.page_bytes());
  pages = std::min<std::int64_t>(pages, pages_);
  // Every layer's region ends in a huge page, and begins in one that the layer before may have touched.
  std::int64_t bytes = 0, touched = 0;
  for (std::int64_t layer = 0; layer < layers_ && pages > 0; ++layer) {
    const std::int64_t first = origin + layer * pages_ * page_bytes;
    const std::int64_t begin = std::max(touched, first / system_page * system_page);
    touched = std::min(round_up(first + pages * page_bytes, system_page), all);
    bytes += touched - begin;
  }
  return bytes;
}

KvPages KvCache::layer(int layer) const {
  check(layer >= 0 && layer < layers_, "the layer is one of the cache");
  const std::size_t layer_bytes = layout_.page_bytes() * static_cast<std::size_t>(pages_);
  return {.layer_base = own_ + static_cast<std::size_t>(layer) * layer_bytes, .page_stride = layout_.page_bytes()};
}

RingPages KvCache::ring_layer(int index) const {
  const KvPages own = layer(index);
  RingPages pages{.own = own, .all = {}, .first_page = first_page_};
  if (!first_page_.empty()) {
    pages.all = {.layer_base = ring_memory_.pools().data() + (own.layer_base - own_), .page_stride = own.page_stride};
  }
  return pages;
}

void KvCache::open_page(std::int32_t page) {
  check(page >= 0 && page < pages_, "the page is one of the cache");
  for (int index = 0; index < layers_; ++index) {
    std::memset(layer(index).page(page), 0, layout_.page_bytes());
  }
}

void KvCache::copy_rows(std::int32_t from, std::int32_t to, int rows) {
  check(from >= 0 && from < pages_ && to >= 0 && to < pages_, "the pages are of the cache");
  for (int index = 0; index < layers_; ++index) {
    const KvPages pages = layer(index);
    std::memmove(pages.page(to), pages.page(from), layout_.page_bytes());
    clear_kv(layout_, pages.page(to), rows);
  }
}

}  // namespace zoetrope
