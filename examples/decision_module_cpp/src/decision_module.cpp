// A decision module: acts on masks, and knows what to do when one is late or missing.
//
// It trusts segmentation/mask and tracks with segmentation/mask_now: what was inferred decides whether the road is
// free, and what was carried to the present can only take that back, never give it.
//
//   ros2 run decision_module_cpp decision_module --ros-args -p budget_ms:=300.0
//   ros2 run decision_module_cpp decision_module --ros-args -r __ns:=/front    # listens to /front/segmentation/...
//   ros2 run decision_module_cpp decision_module --ros-args -p camera:=front   # one of several cameras of a node
//   ros2 run decision_module_cpp decision_module --ros-args -p track:=false    # without the mask of now
//   ros2 run decision_module_cpp decision_module --ros-args --params-file own.yaml
//     # a model with categories of its own: categories: [lane, kerb, person], road: [lane], people: [person]
//
// It publishes what it decides on ~/decision: "go", "yield: ..." or, where it does not see, "slow down: ...".
// The same in Python: examples/decision_module.py.

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diagnostic_msgs/msg/diagnostic_array.hpp"
#include "rcl_interfaces/msg/parameter_descriptor.hpp"
#include "rclcpp/rclcpp.hpp"
#include "sensor_msgs/msg/image.hpp"
#include "std_msgs/msg/header.hpp"
#include "std_msgs/msg/string.hpp"

#include "trust.hpp"

using diagnostic_msgs::msg::DiagnosticArray;
using sensor_msgs::msg::Image;
using std_msgs::msg::String;
using Steady = std::chrono::steady_clock;

namespace
{
constexpr std::uint8_t kNoAnswer = 255;
// Number of frames that may wait for their other half. The two topics differ by milliseconds, not by frames.
constexpr std::size_t kWaiting = 8;
// Time without a message after which somebody should look at the topics.
constexpr std::chrono::seconds kSilent{1};
// Time after which a decision that has not changed is logged again, and after which another one is.
constexpr std::chrono::seconds kRepeat{10};
constexpr std::chrono::milliseconds kChanged{500};

// Nanoseconds.
using Stamp = std::int64_t;

struct Frame
{
  Image::ConstSharedPtr mask;
  std::unique_ptr<Values> record;
};

using Waiting = std::map<Stamp, Frame>;

// Shares of what lies ahead, 0 to 1.
struct Shares
{
  double road = 0.0;
  double people = 0.0;
};

Stamp stamp_of(const std_msgs::msg::Header & header)
{
  return std::int64_t{1'000'000'000} * header.stamp.sec + header.stamp.nanosec;
}

std::unique_ptr<Values> values_of(const diagnostic_msgs::msg::DiagnosticStatus & status)
{
  auto record = std::make_unique<Values>();
  for (const auto & pair : status.values) {
    (*record)[pair.key] = pair.value;
  }
  return record;
}

Shares shares(const Image & mask, const Ids & road_ids, const Ids & people_ids)
{
  std::size_t road = 0, people = 0, all = 0;
  for (std::size_t row = mask.height / 2; row < mask.height; ++row) {
    for (std::size_t column = mask.width / 4; column < mask.width - mask.width / 4; ++column) {
      // Rows may be padded, so they are step bytes apart.
      const auto category = mask.data[row * mask.step + column];
      road += road_ids[category];
      people += people_ids[category];
      ++all;
    }
  }
  const double count = all ? static_cast<double>(all) : 1.0;
  return {static_cast<double>(road) / count, static_cast<double>(people) / count};
}

// Which category a mask holds that has no name here; empty where all have one.
std::string unknown(const Image & mask, const std::size_t count)
{
  std::size_t worst = 0;
  for (std::size_t row = 0; row < mask.height; ++row) {
    for (std::size_t column = 0; column < mask.width; ++column) {
      const std::uint8_t category = mask.data[row * mask.step + column];
      worst = category == kNoAnswer ? worst : std::max<std::size_t>(worst, category);
    }
  }
  return worst < count ? "" : "the mask holds category " + std::to_string(worst) + ", and categories names " +
         std::to_string(count) + ": give those of the model";
}
}  // namespace

// Matches each mask with its timing record by the header stamp, which is that of the camera's frame.
class DecisionModule : public rclcpp::Node
{
public:
  DecisionModule()
  : Node("decision"),
    budget_ms_(budget()),
    categories_(declare_parameter("categories", kCategories)),
    road_(ids_of(declare_parameter("road", std::vector<std::string>{"flat"}), categories_)),
    people_(ids_of(declare_parameter("people", std::vector<std::string>{"human"}), categories_)),
    decision_(create_publisher<String>("~/decision", 10))
  {
    // A node with several cameras has the topics of each below that camera's name.
    const std::string camera = declare_parameter("camera", "");
    const std::string below = camera.empty() ? "segmentation" : "segmentation/" + camera;
    // Both are reliable and volatile: a subscriber that asks for transient local would get nothing.
    mask_subscription_ = create_subscription<Image>(
      below + "/mask", rclcpp::QoS(1),
      [this](Image::ConstSharedPtr message) {on_mask(std::move(message));});
    timing_subscription_ = create_subscription<DiagnosticArray>(
      below + "/timing", rclcpp::QoS(100),
      [this](DiagnosticArray::ConstSharedPtr message) {on_timing(*message);});
    if (declare_parameter("track", true)) {
      // Their subscription is what makes the node compute them.
      mask_now_subscription_ = create_subscription<Image>(
        below + "/mask_now", rclcpp::QoS(1),
        [this](Image::ConstSharedPtr message) {on_mask_now(std::move(message));});
      timing_now_subscription_ = create_subscription<DiagnosticArray>(
        below + "/timing_now", rclcpp::QoS(100),
        [this](DiagnosticArray::ConstSharedPtr message) {on_timing_now(*message);});
    }
    // Missing masks cause no callback, so somebody has to look at the clock.
    timer_ = create_wall_timer(std::chrono::milliseconds(50), [this]() {watch();});
  }

private:
  // Older than this, a mask shows where the road was. Choose it by speed: 300 ms are 4 m at 50 km/h.
  double budget()
  {
    // Typed dynamically, so that budget_ms:=300 will do.
    rcl_interfaces::msg::ParameterDescriptor descriptor;
    descriptor.dynamic_typing = true;
    declare_parameter("budget_ms", rclcpp::ParameterValue(300.0), descriptor);
    const auto given = get_parameter("budget_ms");
    return given.get_type() == rclcpp::ParameterType::PARAMETER_INTEGER ?
           static_cast<double>(given.as_int()) : given.as_double();
  }

  void on_mask(Image::ConstSharedPtr message)
  {
    mask_came_ = Steady::now();
    const Stamp stamp = stamp_of(message->header);
    waiting_[stamp].mask = std::move(message);
    match(waiting_, stamp, [this](const Frame & frame) {decide(*frame.mask, *frame.record);});
  }

  // There is a record for every frame, masked or dropped.
  void on_timing(const DiagnosticArray & message)
  {
    timing_came_ = Steady::now();
    if (message.status.empty()) {
      return;
    }
    const auto & status = message.status.front();
    if (status.message != "masked") {
      // superseded is normal under load: a newer frame is on its way. The others are not.
      if (status.message != "superseded") {
        why_not_ = "the last frame was " + status.message;
      }
      return;
    }
    const Stamp stamp = stamp_of(message.header);
    waiting_[stamp].record = values_of(status);
    match(waiting_, stamp, [this](const Frame & frame) {decide(*frame.mask, *frame.record);});
  }

  // A mask of now is stamped with the time for which it holds.
  void on_mask_now(Image::ConstSharedPtr message)
  {
    const Stamp stamp = stamp_of(message->header);
    waiting_now_[stamp].mask = std::move(message);
    match(waiting_now_, stamp, [this](const Frame & frame) {follow(*frame.mask, *frame.record);});
  }

  // Its record is stamped with its frame; the horizon leads from there to the time for which the mask holds.
  void on_timing_now(const DiagnosticArray & message)
  {
    if (message.status.empty() || message.status.front().message != "propagated") {
      return;
    }
    auto record = values_of(message.status.front());
    const auto ahead = finite(*record, "horizon_ms");
    if (!ahead || std::abs(*ahead) > kDayMs) {
      return;
    }
    const Stamp stamp = stamp_of(message.header) + std::llround(1e6 * *ahead);
    waiting_now_[stamp].record = std::move(record);
    match(waiting_now_, stamp, [this](const Frame & frame) {follow(*frame.mask, *frame.record);});
  }

  // Acts once both halves are there.
  template<typename Act>
  void match(Waiting & waiting, const Stamp stamp, const Act & act)
  {
    const auto found = waiting.find(stamp);
    if (found->second.mask && found->second.record) {
      const Frame frame = std::move(found->second);
      waiting.erase(found);
      act(frame);
    }
    // The oldest stamp goes; where that is the newest frame, a bag has started again and all others go.
    if (waiting.size() > kWaiting) {
      const auto oldest = waiting.begin();
      if (oldest->first == stamp) {
        waiting.erase(std::next(oldest), waiting.end());
      } else {
        waiting.erase(oldest);
      }
    }
  }

  void decide(const Image & mask, const Values & record)
  {
    const Trust trusted = trust(record, budget_ms_);
    why_not_ = trusted.why_not.empty() ? unknown(mask, categories_.size()) : trusted.why_not;
    if (!why_not_.empty()) {
      return;
    }
    seen_until_ = Steady::now() +
      std::chrono::duration_cast<Steady::duration>(std::chrono::duration<double, std::milli>(trusted.ms));
    const Shares ahead = shares(mask, road_, people_);
    free_ = ahead.people <= 0.01 && ahead.road > 0.5;
    say(ahead.people > 0.01 ? "yield: somebody is on the road" : ahead.road > 0.5 ? "go" : "yield: no road ahead");
  }

  // Tracks: between two masks, takes a free road back where somebody has come upon it. What is not in a mask of now
  // may be there all the same, so it never makes a road free, nor a mask younger.
  void follow(const Image & mask, const Values & record)
  {
    const Trust tracked = track(record, budget_ms_);
    const bool acts = tracked.why_not.empty() && free_ && Steady::now() <= seen_until_;
    if (acts && shares(mask, road_, people_).people > 0.01) {
      say("yield: somebody has come upon the road");
    }
  }

  // Says so when the newest usable mask has become too old, and keeps saying so.
  void watch()
  {
    const auto now = Steady::now();
    if (now <= seen_until_) {
      return;
    }
    const bool no_masks = now - mask_came_ > kSilent, no_records = now - timing_came_ > kSilent;
    if (!no_records && !why_not_.empty()) {
      say("slow down: " + why_not_);
    } else if (no_masks || no_records) {
      if (now - looked_at_ > kSilent) {
        looked_at_ = now;
        found_ = look_around(no_masks, no_records);
      }
      say("slow down: " + found_);
    } else {
      say("slow down: the next mask is not there yet");
    }
  }

  // On which topics nothing comes, who publishes there, and where there are masks.
  std::string look_around(bool no_masks, bool no_records)
  {
    const std::string mask_topic = mask_subscription_->get_topic_name();
    std::vector<std::string> texts;
    for (const auto & [silent, topic] :
      {std::pair{no_masks, mask_topic}, std::pair{no_records, std::string(timing_subscription_->get_topic_name())}})
    {
      if (silent) {
        texts.push_back(
          "nothing comes on " + topic + " (publishers: " + std::to_string(count_publishers(topic)) + ")");
      }
    }
    bool others = false;
    const std::string ending = "/mask";
    for (const auto & [name, kinds] : get_topic_names_and_types()) {
      const bool of_masks = name.size() > ending.size() &&
        name.compare(name.size() - ending.size(), ending.size(), ending) == 0 &&
        std::find(kinds.begin(), kinds.end(), "sensor_msgs/msg/Image") != kinds.end();
      if (of_masks && name != mask_topic) {
        others = true;
        texts.push_back("there is " + name + ": to listen there, add " + how_to_listen(name));
      }
    }
    if (!others && !count_publishers(mask_topic)) {
      texts.push_back("no segmentation node is to be seen in this ROS domain");
    }
    std::string all;
    for (const auto & text : texts) {
      all += (all.empty() ? "" : "; ") + text;
    }
    return all;
  }

  // Publishes a decision, and logs it if it is another one or was not logged for long; ages alone change nothing.
  void say(const std::string & text)
  {
    String message;
    message.data = text;
    decision_->publish(message);
    std::string kind = text;
    kind.erase(
      std::remove_if(kind.begin(), kind.end(), [](unsigned char letter) {return std::isdigit(letter);}), kind.end());
    const Steady::duration patience = kind != said_ ? Steady::duration(kChanged) : Steady::duration(kRepeat);
    if (said_.empty() || Steady::now() - said_at_ > patience) {
      RCLCPP_INFO(get_logger(), "%s", text.c_str());
      said_ = kind;
      said_at_ = Steady::now();
    }
  }

  double budget_ms_;
  // Of the segmentation node, which has them in its parameter category_names.
  std::vector<std::string> categories_;
  Ids road_, people_;
  rclcpp::Publisher<String>::SharedPtr decision_;
  rclcpp::Subscription<Image>::SharedPtr mask_subscription_;
  rclcpp::Subscription<DiagnosticArray>::SharedPtr timing_subscription_;
  rclcpp::Subscription<Image>::SharedPtr mask_now_subscription_;
  rclcpp::Subscription<DiagnosticArray>::SharedPtr timing_now_subscription_;
  rclcpp::TimerBase::SharedPtr timer_;
  Waiting waiting_, waiting_now_;
  bool free_ = false;
  Steady::time_point seen_until_ = Steady::now();
  std::string why_not_;
  Steady::time_point mask_came_ = Steady::now(), timing_came_ = Steady::now();
  Steady::time_point looked_at_, said_at_;
  std::string found_, said_;
};

int main(int argc, char ** argv)
{
  rclcpp::init(argc, argv);
  rclcpp::spin(std::make_shared<DecisionModule>());
  rclcpp::shutdown();
  return 0;
}
