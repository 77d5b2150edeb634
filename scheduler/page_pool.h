// Accounting of KV pages of one ring member: ids, reference counts, exact totals. No memory here.
// A page is used (by sequences that run), or only kept (by the prefix cache, until memory asks for it), or free.
#pragma once

#include <cstdint>
#include <vector>

namespace zoetrope {

class PagePool {
 public:
  explicit PagePool(std::int32_t pages);

  std::int32_t capacity() const;
  std::int32_t free_pages() const;         // neither used nor kept nor reserved
  std::int32_t reclaimable_pages() const;  // kept and not used: free after the last forget()
  std::int32_t available_pages() const { return free_pages() + reclaimable_pages(); }

  // Pages promised to admitted sequences but not handed out yet; reserve() fails (false) when they would not all fit.
  bool reserve(std::int32_t pages);
  void unreserve(std::int32_t pages);
  std::int32_t reserved() const;

  std::int32_t take();              // from the reservation; one user. check()s that something is reserved
  void share(std::int32_t page);    // users + 1; the page must be used or kept
  bool release(std::int32_t page);  // users - 1; true when the page became free
  // The same for a page that is still read in this step, on its way to another member: until settle() it is handed out
  // only when no other is left.
  void leave(std::int32_t page);
  void settle();
  std::int32_t references(std::int32_t page) const;  // users

  void keep(std::int32_t page);    // keepers + 1; the page must be used or kept
  bool forget(std::int32_t page);  // keepers - 1; true when the page became free
  std::int32_t keepers(std::int32_t page) const;

 private:
  struct Counts {
    std::int32_t users = 0, keepers = 0;
    bool free() const { return users == 0 && keepers == 0; }
    bool reclaimable() const { return users == 0 && keepers > 0; }
  };
  Counts& at(std::int32_t page);
  const Counts& at(std::int32_t page) const;
  bool released(std::int32_t page, std::vector<std::int32_t>& list);
  bool freed(std::int32_t page, std::vector<std::int32_t>& list);

  std::vector<Counts> counts_;
  std::vector<std::int32_t> free_;
  std::vector<std::int32_t> left_;  // free too
  std::int32_t reserved_ = 0, reclaimable_ = 0;
};

}  // namespace zoetrope
