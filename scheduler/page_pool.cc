#include "scheduler/page_pool.h"

#include "monitoring/check.h"

namespace zoetrope {

PagePool::PagePool(std::int32_t pages) : references_(static_cast<std::size_t>(pages), 0) {
  free_.reserve(references_.size());
  for (std::int32_t page = pages; page-- > 0;) {
    free_.push_back(page);  // taken from the back: lowest id first
  }
}

std::int32_t PagePool::capacity() const { return static_cast<std::int32_t>(references_.size()); }

std::int32_t PagePool::free_pages() const { return static_cast<std::int32_t>(free_.size()) - reserved_; }

bool PagePool::reserve(std::int32_t pages) {
  check(pages >= 0, "a negative number of pages was asked for");
  if (pages > free_pages()) {
    return false;
  }
  reserved_ += pages;
  return true;
}

void PagePool::unreserve(std::int32_t pages) {
  check(pages >= 0 && pages <= reserved_, "more pages were given back than were reserved");
  reserved_ -= pages;
}

std::int32_t PagePool::reserved() const { return reserved_; }

std::int32_t PagePool::take() {
  check(reserved_ > 0, "a page was taken that nobody reserved");
  check(!free_.empty(), "the free list is shorter than the reservations");
  --reserved_;
  const std::int32_t page = free_.back();
  free_.pop_back();
  check_eq(references_[static_cast<std::size_t>(page)], 0, "a free page is referenced");
  references_[static_cast<std::size_t>(page)] = 1;
  return page;
}

void PagePool::share(std::int32_t page) {
  check(references(page) > 0, "a free page was shared");
  ++references_[static_cast<std::size_t>(page)];
}

bool PagePool::release(std::int32_t page) {
  check(references(page) > 0, "a free page was released");
  if (--references_[static_cast<std::size_t>(page)] > 0) {
    return false;
  }
  free_.push_back(page);
  return true;
}

std::int32_t PagePool::references(std::int32_t page) const {
  check(page >= 0 && page < capacity(), "a page id outside the pool");
  return references_[static_cast<std::size_t>(page)];
}

}  // namespace zoetrope
