#include "parallel/backend/threads.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>

#include "monitoring/check.h"
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

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadEndpoint> endpoint, Group group)
      : endpoint_(std::move(endpoint)), job_(*endpoint_->job), group_(std::move(group)) {}

  int rank() const override { return group_.rank; }
  int size() const override { return group_.size(); }

  void exchange(std::span<const SendPart> sends, std::span<const ReceivePart> receives, std::string_view what) override;

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
  Traffic traffic() const override { return traffic_; }

 private:
  using Lock = std::unique_lock<std::mutex>;

  int member(int peer) const {
    check(peer >= 0 && peer < size(), "a peer lies in the communicator");
    return group_.members[static_cast<std::size_t>(peer)];
  }
  void post(std::span<const SendPart> sends);
  bool take_arrived(Lock& lock, std::span<const ReceivePart> receives, std::string_view what);
  bool all_taken() const;
  std::vector<int> missing(std::span<const ReceivePart> receives) const;
  void withdraw(Lock& lock);

  std::shared_ptr<ThreadEndpoint> endpoint_;
  ThreadJob& job_;
  Group group_;
  Traffic traffic_;
  std::vector<Post> posts_;               // of the exchange under way
  std::vector<std::size_t> outstanding_;  // indices of receives not yet filled, in order
  std::vector<bool> late_;                // peers whose next message has not arrived, in one pass over outstanding_
};

void ThreadCommunicator::post(std::span<const SendPart> sends) {
  posts_.clear();
  posts_.reserve(sends.size());  // boxes hold pointers
  for (const SendPart& send : sends) {
    if (send.peer == rank() || send.bytes.empty()) {
      continue;
    }
    const int receiver = member(send.peer);
    posts_.push_back({.group = group_.number, .receiver = receiver, .bytes = send.bytes});
    job_.box(endpoint_->rank, receiver).push_back(&posts_.back());
    job_.cv(receiver).notify_all();
    traffic_.messages += 1;
    traffic_.bytes += send.bytes.size();
  }
}

// Fills every receive whose message is there; true when at least one was filled. Copies without the mutex: messages arrive
// meanwhile, and a receive whose sender still owes an earlier one must not take them.
bool ThreadCommunicator::take_arrived(Lock& lock, std::span<const ReceivePart> receives, std::string_view what) {
  bool moved = false;
  late_.assign(static_cast<std::size_t>(size()), false);
  for (std::size_t at = 0; at < outstanding_.size();) {
    const ReceivePart& part = receives[outstanding_[at]];
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
      refuse_length(what, sender, endpoint_->rank, sent, part.bytes.size());
    }
    outstanding_.erase(outstanding_.begin() + static_cast<std::ptrdiff_t>(at));
    moved = true;
  }
  return moved;
}

bool ThreadCommunicator::all_taken() const {
  return std::all_of(posts_.begin(), posts_.end(), [](const Post& post) { return post.state == Post::State::kTaken; });
}

std::vector<int> ThreadCommunicator::missing(std::span<const ReceivePart> receives) const {
  std::vector<int> ranks;
  for (const std::size_t index : outstanding_) {
    ranks.push_back(member(receives[index].peer));
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

// Takes back what nobody has claimed and waits for the copies under way: the caller's memory is about to go.
void ThreadCommunicator::withdraw(Lock& lock) {
  for (Post& post : posts_) {
    if (post.state == Post::State::kWaiting) {
      auto& box = job_.box(endpoint_->rank, post.receiver);
      box.erase(std::find(box.begin(), box.end(), &post));
      post.state = Post::State::kTaken;
    }
  }
  job_.cv(endpoint_->rank).wait(lock, [this] { return all_taken(); });
}

void ThreadCommunicator::exchange(std::span<const SendPart> sends, std::span<const ReceivePart> receives,
                                  std::string_view what) {
  job_.board.throw_if_stopped();
  copy_own_parts(rank(), sends, receives, what);
  outstanding_.clear();
  for (std::size_t i = 0; i < receives.size(); ++i) {
    if (receives[i].peer != rank() && !receives[i].bytes.empty()) {
      outstanding_.push_back(i);
    }
  }
  const auto until = std::chrono::steady_clock::now() + endpoint_->deadline;
  const int self = endpoint_->rank;
  Lock lock(job_.mutex);
  post(sends);
  try {
    for (;;) {
      const bool moved = take_arrived(lock, receives, what);
      if (outstanding_.empty() && all_taken()) {
        break;
      }
      job_.board.throw_if_stopped();
      if (moved) {
        continue;
      }
      job_.board.set_waits_for(self, missing(receives).front());
      if (std::chrono::steady_clock::now() >= until) {
        give_up(job_.board, self, what, endpoint_->deadline, missing(receives));
      }
      job_.cv(self).wait_until(lock, until);
    }
    job_.board.set_waits_for(self, -1);
  } catch (const std::exception& error) {
    withdraw(lock);
    lock.unlock();
    abort(error.what());
    throw;
  }
}

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
