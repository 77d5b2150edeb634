// Accounting of KV pages of one ring member: ids, reference counts, exact totals. No memory here.
#pragma once

#include <cstdint>
#include <vector>

namespace zoetrope {

class PagePool {
 public:
  explicit PagePool(std::int32_t pages);

  std::int32_t capacity() const;
  std::int32_t free_pages() const;

  // Pages promised to admitted sequences but not handed out yet; reserve() fails (false) when they would not all fit.
  bool reserve(std::int32_t pages);
  void unreserve(std::int32_t pages);
  std::int32_t reserved() const;

  std::int32_t take();               // from the reservation; refcount 1. check()s that something is reserved
  void share(std::int32_t page);     // refcount + 1
  bool release(std::int32_t page);   // refcount - 1; true when the page became free
  std::int32_t references(std::int32_t page) const;

 private:
  std::vector<std::int32_t> references_;
  std::vector<std::int32_t> free_;
  std::int32_t reserved_ = 0;
};

}  // namespace zoetrope
