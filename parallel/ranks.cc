#include "parallel/ranks.h"

#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "parallel/backend/host_name.h"
#include "parallel/backend/self.h"
#include "parallel/backend/threads.h"

namespace zoetrope {

Ranks self_ranks() {
  Ranks ranks;
  ranks.place = place_of(ranks.layout, 0);
  ranks.world = self_communicator();
  ranks.tp = ranks.world->split(0, 0);
  ranks.ring = ranks.world->split(0, 0);
  ranks.host = private_memory();
  ranks.host_name = host_name();
  return ranks;
}

void run_ranks(const Layout& layout, const std::function<void(Ranks&)>& body) {
  auto communicators = thread_communicators(layout.ranks());
  std::mutex mutex;
  std::exception_ptr first;
  const auto run = [&](int rank) {
    Ranks ranks;
    ranks.layout = layout;
    ranks.place = place_of(layout, rank);
    ranks.world = std::move(communicators[static_cast<std::size_t>(rank)]);
    ranks.host_name = host_name();
    std::string why = "an error of an unknown kind";
    try {
      ranks.tp = ranks.world->split(ranks.place.member, ranks.place.tp_index);
      ranks.ring = ranks.world->split(ranks.place.tp_index, ranks.place.member);
      ranks.host = memory_of_host(ranks.world->split(0, rank));
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
