#include "scheduler/page_pool.h"

#include "monitoring/check.h"

namespace zoetrope {

PagePool::PagePool(std::int32_t pages) : counts_(static_cast<std::size_t>(pages)) {
  free_.reserve(counts_.size());
  for (std::int32_t page = pages; page-- > 0;) {
    free_.push_back(page);  // taken from the back: lowest id first
  }
}

std::int32_t PagePool::capacity() const { return static_cast<std::int32_t>(counts_.size()); }

std::int32_t PagePool::free_pages() const { return static_cast<std::int32_t>(free_.size() + left_.size()) - reserved_; }

std::int32_t PagePool::reclaimable_pages() const { return reclaimable_; }

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
  std::vector<std::int32_t>& list = free_.empty() ? left_ : free_;
  check(!list.empty(), "the free list is shorter than the reservations");
  --reserved_;
  const std::int32_t page = list.back();
  list.pop_back();
  check(at(page).free(), "a free page is referenced");
  at(page).users = 1;
  return page;
}

void PagePool::share(std::int32_t page) {
  check(!at(page).free(), "a free page was shared");
  reclaimable_ -= at(page).reclaimable() ? 1 : 0;
  ++at(page).users;
}

bool PagePool::release(std::int32_t page) { return released(page, free_); }

void PagePool::leave(std::int32_t page) { released(page, left_); }

bool PagePool::released(std::int32_t page, std::vector<std::int32_t>& list) {
  check(at(page).users > 0, "a free page was released");
  --at(page).users;
  reclaimable_ += at(page).reclaimable() ? 1 : 0;
  return freed(page, list);
}

void PagePool::settle() {
  free_.insert(free_.end(), left_.begin(), left_.end());
  left_.clear();
}

std::int32_t PagePool::references(std::int32_t page) const { return at(page).users; }

void PagePool::keep(std::int32_t page) {
  check(!at(page).free(), "a free page was kept");
  ++at(page).keepers;
}

bool PagePool::forget(std::int32_t page) {
  check(at(page).keepers > 0, "a page was forgotten that nobody keeps");
  reclaimable_ -= at(page).reclaimable() ? 1 : 0;
  --at(page).keepers;
  reclaimable_ += at(page).reclaimable() ? 1 : 0;
  return freed(page, free_);
}

std::int32_t PagePool::keepers(std::int32_t page) const { return at(page).keepers; }

// Where nobody holds the page, it goes to a list of free ones.
bool PagePool::freed(std::int32_t page, std::vector<std::int32_t>& list) {
  if (!at(page).free()) {
    return false;
  }
  list.push_back(page);
  return true;
}

PagePool::Counts& PagePool::at(std::int32_t page) {
  check(page >= 0 && page < capacity(), "a page id outside the pool");
  return counts_[static_cast<std::size_t>(page)];
}

const PagePool::Counts& PagePool::at(std::int32_t page) const {
  check(page >= 0 && page < capacity(), "a page id outside the pool");
  return counts_[static_cast<std::size_t>(page)];
}

}  // namespace zoetrope
