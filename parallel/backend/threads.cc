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

  void exchange(std::span<const SendPart> sends, std::span<const ReceivePart> receives,
                std::string_view what) override {
    Exchange exchange(*this, what);
    exchange.begin(sends, receives);
    exchange.wait();
  }

  std::unique_ptr<PostedExchange> post(std::span<const SendPart> sends, std::span<const ReceivePart> receives,
                                       std::string_view what) override {
    auto exchange = std::make_unique<Exchange>(*this, what);
    exchange->begin(sends, receives);
    return exchange;
  }

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

  // One exchange from its beginning to its end or withdrawal.
  class Exchange : public PostedExchange {
   public:
    Exchange(ThreadCommunicator& comm, std::string_view what) : comm_(comm), what_(what) {}
    Exchange(const Exchange&) = delete;
    Exchange& operator=(const Exchange&) = delete;
    ~Exchange() override { withdraw(); }

    void begin(std::span<const SendPart> sends, std::span<const ReceivePart> receives);
    bool test() override;
    void wait() override;

   private:
    friend class ThreadCommunicator;
    bool all_taken() const;
    std::vector<int> missing() const;
    void withdraw();

    ThreadCommunicator& comm_;
    std::string_view what_;
    std::vector<Post> posts_;
    std::vector<ReceivePart> outstanding_;  // receives not yet filled, in order
  };

  int member(int peer) const {
    check(peer >= 0 && peer < size(), "a peer lies in the communicator");
    return group_.members[static_cast<std::size_t>(peer)];
  }
  bool take_arrived(Lock& lock);
  bool take(Lock& lock, const ReceivePart& part, std::string_view what);

  std::shared_ptr<ThreadEndpoint> endpoint_;
  ThreadJob& job_;
  Group group_;
  Traffic traffic_;
  std::vector<Exchange*> under_way_;  // in the order of their beginning
  std::vector<bool> late_;  // peers whose next message has not arrived, in one pass over all outstanding parts
};

void ThreadCommunicator::Exchange::begin(std::span<const SendPart> sends, std::span<const ReceivePart> receives) {
  comm_.job_.board.throw_if_stopped();
  copy_own_parts(comm_.rank(), sends, receives, what_);
  for (const ReceivePart& part : receives) {
    if (part.peer != comm_.rank() && !part.bytes.empty()) {
      outstanding_.push_back(part);
    }
  }
  comm_.under_way_.push_back(this);
  posts_.reserve(sends.size());  // boxes hold pointers
  const Lock lock(comm_.job_.mutex);
  for (const SendPart& send : sends) {
    if (send.peer == comm_.rank() || send.bytes.empty()) {
      continue;
    }
    const int receiver = comm_.member(send.peer);
    posts_.push_back({.group = comm_.group_.number, .receiver = receiver, .bytes = send.bytes});
    comm_.job_.box(comm_.endpoint_->rank, receiver).push_back(&posts_.back());
    comm_.job_.cv(receiver).notify_all();
    comm_.traffic_.messages += 1;
    comm_.traffic_.bytes += send.bytes.size();
  }
}

// Fills every receive of this communicator whose message is there; true when at least one was filled.
bool ThreadCommunicator::take_arrived(Lock& lock) {
  bool moved = false;
  late_.assign(static_cast<std::size_t>(size()), false);
  for (Exchange* const exchange : under_way_) {
    for (std::size_t at = 0; at < exchange->outstanding_.size();) {
      const ReceivePart part = exchange->outstanding_[at];
      // A receive whose sender still owes an earlier one must not take a message that arrived in the middle of this
      // pass.
      if (late_[static_cast<std::size_t>(part.peer)] || !take(lock, part, exchange->what_)) {
        late_[static_cast<std::size_t>(part.peer)] = true;
        ++at;
        continue;
      }
      exchange->outstanding_.erase(exchange->outstanding_.begin() + static_cast<std::ptrdiff_t>(at));
      moved = true;
    }
  }
  return moved;
}

// The next message of the part's peer, when it is there. Copies without the mutex: messages arrive meanwhile.
bool ThreadCommunicator::take(Lock& lock, const ReceivePart& part, std::string_view what) {
  const int sender = member(part.peer);
  auto& box = job_.box(sender, endpoint_->rank);
  const auto found =
      std::find_if(box.begin(), box.end(), [this](const Post* post) { return post->group == group_.number; });
  if (found == box.end()) {
    return false;
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
  return true;
}

bool ThreadCommunicator::Exchange::all_taken() const {
  return std::all_of(posts_.begin(), posts_.end(), [](const Post& post) { return post.state == Post::State::kTaken; });
}

std::vector<int> ThreadCommunicator::Exchange::missing() const {
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

// Takes back what nobody has claimed and waits for the copies under way: the caller's memory is about to go.
void ThreadCommunicator::Exchange::withdraw() {
  std::erase(comm_.under_way_, this);
  ThreadJob& job = comm_.job_;
  Lock lock(job.mutex);
  for (Post& post : posts_) {
    if (post.state == Post::State::kWaiting) {
      auto& box = job.box(comm_.endpoint_->rank, post.receiver);
      box.erase(std::find(box.begin(), box.end(), &post));
      post.state = Post::State::kTaken;
    }
  }
  job.cv(comm_.endpoint_->rank).wait(lock, [this] { return all_taken(); });
  posts_.clear();
}

bool ThreadCommunicator::Exchange::test() {
  comm_.job_.board.throw_if_stopped();
  Lock lock(comm_.job_.mutex);
  while (comm_.take_arrived(lock)) {
  }
  return outstanding_.empty() && all_taken();
}

void ThreadCommunicator::Exchange::wait() {
  ThreadJob& job = comm_.job_;
  const int self = comm_.endpoint_->rank;
  const auto deadline = comm_.endpoint_->deadline;
  const auto until = std::chrono::steady_clock::now() + deadline;
  try {
    Lock lock(job.mutex);
    for (;;) {
      const bool moved = comm_.take_arrived(lock);
      if (outstanding_.empty() && all_taken()) {
        break;
      }
      job.board.throw_if_stopped();
      if (moved) {
        continue;
      }
      job.board.set_waits_for(self, missing().front());
      if (std::chrono::steady_clock::now() >= until) {
        give_up(job.board, self, what_, deadline, missing());
      }
      job.cv(self).wait_until(lock, until);
    }
    job.board.set_waits_for(self, -1);
  } catch (const std::exception& error) {
    withdraw();
    comm_.abort(error.what());
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
