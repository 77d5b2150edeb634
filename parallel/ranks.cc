#include "parallel/ranks.h"

#include <array>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "monitoring/check.h"
#include "parallel/backend/host_name.h"
#include "parallel/backend/self.h"
#include "parallel/backend/threads.h"

namespace zoetrope {

void divide_world(Ranks& ranks, std::unique_ptr<Communicator> host_ranks) {
  const int rank = ranks.world->rank();
  const Place place = place_of(ranks.layout, rank);
  check_eq(ranks.world->size(), ranks.layout.ranks(), "a layout has the ranks of its world");
  ranks.place = place;
  ranks.stage = ranks.world->split(place.stage, rank);
  ranks.tp = ranks.stage->split(place.member, place.tp_index);
  ranks.ring = ranks.stage->split(place.tp_index, place.member);
  ranks.pipe = ranks.world->split(ranks.stage->rank(), place.stage);
  ranks.stage_host = memory_of_host(host_ranks->split(place.stage, rank));
  ranks.host = memory_of_host(std::move(host_ranks));
  ranks.host_name = host_name();
}

std::array<NamedBook, kAxes> books_of(const Ranks& ranks) {
  const std::array<const Communicator*, kAxes> axes{ranks.world.get(), ranks.stage.get(), ranks.tp.get(),
                                                    ranks.ring.get(), ranks.pipe.get()};
  std::array<NamedBook, kAxes> books;
  for (std::size_t axis = 0; axis < kAxes; ++axis) {
    books[axis] = {kAxisNames[axis], &axes[axis]->book()};
  }
  return books;
}

Ranks self_ranks() {
  Ranks ranks;
  ranks.world = self_communicator();
  divide_world(ranks, ranks.world->split(0, 0));
  return ranks;
}

void run_ranks(const Layout& layout, const std::function<void(Ranks&)>& body) {
  auto communicators = thread_communicators(layout.ranks());
  std::mutex mutex;
  std::exception_ptr first;
  const auto run = [&](int rank) {
    Ranks ranks;
    ranks.layout = layout;
    ranks.world = std::move(communicators[static_cast<std::size_t>(rank)]);
    std::string why = "an error of an unknown kind";
    try {
      divide_world(ranks, ranks.world->split(0, rank));
      body(ranks);
      return;
    } catch (const std::exception& error) {
      why = error.what();
      const std::lock_guard lock(mutex);
      first = first ? first : std::current_exception();
    } catch (...) {
      const std::lock_guard lock(mutex);
      first = first ? first : std::current_exception();
    }
    ranks.world->abort(why);
  };
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    threads.emplace_back(run, rank);
  }
  threads.clear();  // joins
  if (first) {
    std::rethrow_exception(first);
  }
}

}  // namespace zoetrope
