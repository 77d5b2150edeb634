#include "parallel/backend/threads.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>

#include "monitoring/check.h"
#include "parallel/backend/flight_pool.h"
#include "parallel/backend/group.h"
#include "parallel/backend/job_board.h"

namespace zoetrope {
namespace {

// A message on its way. Lives in the sender's communicator; state is guarded by the job's mutex.
struct Post {
  enum class State { kWaiting, kClaimed, kTaken };
  int group = 0;
  int receiver = 0;  // rank of the job
  std::span<const std::byte> bytes;
  State state = State::kWaiting;
};

// Guarded by `mutex`, but for the board.
struct ThreadJob {
  explicit ThreadJob(int ranks_)
      : ranks(ranks_),
        memory(JobBoard::bytes(ranks_) / 64 + 1),
        board(std::as_writable_bytes(std::span(memory)), ranks_),
        arrived(static_cast<std::size_t>(ranks_)),
        boxes(static_cast<std::size_t>(ranks_) * static_cast<std::size_t>(ranks_)) {}

  std::deque<Post*>& box(int from, int to) { return boxes[static_cast<std::size_t>(from * ranks + to)]; }
  std::condition_variable& cv(int rank) { return arrived[static_cast<std::size_t>(rank)]; }

  struct alignas(64) Line {
    std::byte bytes[64] = {};
  };
  const int ranks;
  std::vector<Line> memory;
  JobBoard board;
  std::mutex mutex;
  std::vector<std::condition_variable> arrived;  // per rank: something changed for it
  std::vector<std::deque<Post*>> boxes;          // [from][to], in order of sending
};

// What one rank's communicators share.
struct ThreadEndpoint {
  std::shared_ptr<ThreadJob> job;
  int rank = 0;
  int next_number = 1;
  std::chrono::milliseconds deadline = std::chrono::seconds(120);
};

class ThreadCommunicator;

// One exchange of a communicator under way. Its messages lie in the boxes of the job until their receivers take them.
class ThreadFlight : public Flight {
 public:
  explicit ThreadFlight(ThreadCommunicator& comm) : comm_(comm) {}
  bool test() override;
  void wait() override;
  void withdraw() noexcept override;
  void end() noexcept override;
  Traffic sent() const override { return sent_; }

 private:
  friend class ThreadCommunicator;
  bool all_taken() const {
    return std::all_of(posts_.begin(), posts_.end(),
                       [](const Post& post) { return post.state == Post::State::kTaken; });
  }
  bool done() const { return outstanding_.empty() && all_taken(); }
  std::vector<int> missing() const;

  ThreadCommunicator& comm_;
  std::string_view what_;
  Traffic sent_;
  std::chrono::steady_clock::time_point begun_;
  std::vector<Post> posts_;
  std::vector<ReceivePart> outstanding_;  // receives not yet filled, in order
};

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadEndpoint> endpoint, Group group)
      : endpoint_(std::move(endpoint)), job_(*endpoint_->job), group_(std::move(group)) {}

  int rank() const override { return group_.rank; }
  int size() const override { return group_.size(); }

  std::unique_ptr<Communicator> split(int color, int key) override {
    return std::make_unique<ThreadCommunicator>(endpoint_,
                                                split_group(*this, group_, color, key, endpoint_->next_number));
  }

  void abort(std::string_view why) noexcept override {
    job_.board.stop(endpoint_->rank, why);
    // With the mutex, so that no rank is between looking at the board and falling asleep.
    const std::lock_guard lock(job_.mutex);
    for (auto& cv : job_.arrived) {
      cv.notify_all();
    }
  }

  void set_deadline(std::chrono::milliseconds deadline) override { endpoint_->deadline = deadline; }

 private:
  friend class ThreadFlight;
  using Lock = std::unique_lock<std::mutex>;

  Flight& start(std::span<const SendPart> sends, std::span<const ReceivePart> receives, std::string_view what) override;
  int member(int peer) const {
    check(peer >= 0 && peer < size(), "a peer lies in the communicator");
    return group_.members[static_cast<std::size_t>(peer)];
  }
  void send(std::span<const SendPart> sends, ThreadFlight& flight);
  bool take_arrived(Lock& lock);
  bool take_arrived(Lock& lock, ThreadFlight& flight);
  bool moved(Lock& lock, ThreadFlight& flight, std::chrono::steady_clock::time_point since);

  std::shared_ptr<ThreadEndpoint> endpoint_;
  ThreadJob& job_;
  Group group_;
  FlightPool<ThreadFlight> flights_;
  std::vector<bool> late_;  // peers whose next message has not arrived, in one pass over the flights
};

Flight& ThreadCommunicator::start(std::span<const SendPart> sends, std::span<const ReceivePart> receives,
                                  std::string_view what) {
  job_.board.throw_if_stopped();
  copy_own_parts(rank(), sends, receives, what);
  ThreadFlight& flight = flights_.begin(*this);
  flight.what_ = what;
  flight.begun_ = std::chrono::steady_clock::now();
  flight.outstanding_.clear();
  for (const ReceivePart& part : receives) {
    if (part.peer != rank() && !part.bytes.empty()) {
      flight.outstanding_.push_back(part);
    }
  }
  const Lock lock(job_.mutex);
  send(sends, flight);
  return flight;
}

void ThreadCommunicator::send(std::span<const SendPart> sends, ThreadFlight& flight) {
  flight.sent_ = {};
  flight.posts_.clear();
  flight.posts_.reserve(sends.size());  // boxes hold pointers
  for (const SendPart& send : sends) {
    if (send.peer == rank() || send.bytes.empty()) {
      continue;
    }
    const int receiver = member(send.peer);
    flight.posts_.push_back({.group = group_.number, .receiver = receiver, .bytes = send.bytes});
    job_.box(endpoint_->rank, receiver).push_back(&flight.posts_.back());
    job_.cv(receiver).notify_all();
    flight.sent_.messages += 1;
    flight.sent_.bytes += send.bytes.size();
  }
}

// Fills every receive of every flight whose message is there; true when at least one was filled. Flights in the order
// of posting: a receive whose sender still owes an earlier one must not take its message.
bool ThreadCommunicator::take_arrived(Lock& lock) {
  bool moved = false;
  late_.assign(static_cast<std::size_t>(size()), false);
  for (const auto& flight : flights_.under_way()) {
    moved = take_arrived(lock, *flight) || moved;
  }
  return moved;
}

// Copies without the mutex: messages arrive meanwhile.
bool ThreadCommunicator::take_arrived(Lock& lock, ThreadFlight& flight) {
  bool moved = false;
  for (std::size_t at = 0; at < flight.outstanding_.size();) {
    const ReceivePart part = flight.outstanding_[at];
    if (late_[static_cast<std::size_t>(part.peer)]) {
      ++at;
      continue;
    }
    const int sender = member(part.peer);
    auto& box = job_.box(sender, endpoint_->rank);
    const auto found =
        std::find_if(box.begin(), box.end(), [this](const Post* post) { return post->group == group_.number; });
    if (found == box.end()) {
      late_[static_cast<std::size_t>(part.peer)] = true;
      ++at;
      continue;
    }
    Post* const post = *found;
    box.erase(found);
    post->state = Post::State::kClaimed;
    const std::size_t sent = post->bytes.size();
    lock.unlock();
    if (sent == part.bytes.size()) {
      std::memcpy(part.bytes.data(), post->bytes.data(), sent);
    }
    lock.lock();
    post->state = Post::State::kTaken;
    job_.cv(sender).notify_all();
    if (sent != part.bytes.size()) {
      refuse_length(flight.what_, sender, endpoint_->rank, sent, part.bytes.size());
    }
    flight.outstanding_.erase(flight.outstanding_.begin() + static_cast<std::ptrdiff_t>(at));
    moved = true;
  }
  return moved;
}

// One look at all that is under way: true when something moved. Throws when the job was stopped, or when the flight is
// not done a deadline after `since`.
bool ThreadCommunicator::moved(Lock& lock, ThreadFlight& flight, std::chrono::steady_clock::time_point since) {
  const bool moved = take_arrived(lock);
  if (flight.done()) {
    return true;
  }
  job_.board.throw_if_stopped();
  if (!moved && std::chrono::steady_clock::now() >= since + endpoint_->deadline) {
    give_up(job_.board, endpoint_->rank, flight.what_, endpoint_->deadline, flight.missing());
  }
  return moved;
}

std::vector<int> ThreadFlight::missing() const {
  std::vector<int> ranks;
  for (const ReceivePart& part : outstanding_) {
    ranks.push_back(comm_.member(part.peer));
  }
  for (const Post& post : posts_) {
    if (post.state != Post::State::kTaken) {
      ranks.push_back(post.receiver);
    }
  }
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

bool ThreadFlight::test() {
  ThreadCommunicator::Lock lock(comm_.job_.mutex);
  try {
    comm_.moved(lock, *this, begun_);
    return done();
  } catch (const std::exception& error) {
    lock.unlock();
    comm_.abort(error.what());
    throw;
  }
}

void ThreadFlight::wait() {
  const auto begun = std::chrono::steady_clock::now();
  const int self = comm_.endpoint_->rank;
  ThreadJob& job = comm_.job_;
  ThreadCommunicator::Lock lock(job.mutex);
  try {
    for (bool waits = false;;) {
      const bool moved = comm_.moved(lock, *this, begun);
      if (done()) {
        if (waits) {
          job.board.set_waits_for(self, -1);
        }
        return;
      }
      if (!moved) {
        job.board.set_waits_for(self, missing().front());
        waits = true;
        job.cv(self).wait_until(lock, begun + comm_.endpoint_->deadline);
      }
    }
  } catch (const std::exception& error) {
    lock.unlock();
    comm_.abort(error.what());
    throw;
  }
}

// Takes back what nobody has claimed and waits for the copies under way.
void ThreadFlight::withdraw() noexcept {
  ThreadCommunicator::Lock lock(comm_.job_.mutex);
  for (Post& post : posts_) {
    if (post.state == Post::State::kWaiting) {
      auto& box = comm_.job_.box(comm_.endpoint_->rank, post.receiver);
      box.erase(std::find(box.begin(), box.end(), &post));
      post.state = Post::State::kTaken;
    }
  }
  outstanding_.clear();
  comm_.job_.cv(comm_.endpoint_->rank).wait(lock, [this] { return all_taken(); });
}

void ThreadFlight::end() noexcept { comm_.flights_.end(this); }

}  // namespace

std::vector<std::unique_ptr<Communicator>> thread_communicators(int ranks) {
  check(ranks > 0, "a job has ranks");
  auto job = std::make_shared<ThreadJob>(ranks);
  std::vector<std::unique_ptr<Communicator>> made;
  for (int rank = 0; rank < ranks; ++rank) {
    auto endpoint = std::make_shared<ThreadEndpoint>();
    endpoint->job = job;
    endpoint->rank = rank;
    made.push_back(std::make_unique<ThreadCommunicator>(std::move(endpoint), whole_group(rank, ranks)));
  }
  return made;
}

}  // namespace zoetrope
