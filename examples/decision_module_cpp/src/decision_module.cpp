// A decision module: acts on masks, and knows what to do when one is late or missing.
//
//   ros2 run decision_module_cpp decision_module --ros-args -p budget_ms:=300.0
//
// It publishes what it decides on ~/decision: "go", "yield: ..." or, where it does not see, "slow down: ...".
// The same in Python: examples/decision_module.py.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "diagnostic_msgs/msg/diagnostic_array.hpp"
#include "rclcpp/rclcpp.hpp"
#include "sensor_msgs/msg/image.hpp"
#include "std_msgs/msg/string.hpp"

using diagnostic_msgs::msg::DiagnosticArray;
using sensor_msgs::msg::Image;
using std_msgs::msg::String;
using Steady = std::chrono::steady_clock;

namespace
{
constexpr std::uint8_t kFlat = 1;
constexpr std::uint8_t kHuman = 6;
// Frames that may wait for their other half. The two topics differ by milliseconds, not by frames.
constexpr std::size_t kWaiting = 8;

using Values = std::map<std::string, std::string>;
using Stamp = std::pair<std::int32_t, std::uint32_t>;

struct Frame
{
  Image::ConstSharedPtr mask;
  std::unique_ptr<Values> record;
};
}  // namespace

// Matches each mask with its timing record by the header stamp, which is that of the camera's frame.
class DecisionModule : public rclcpp::Node
{
public:
  DecisionModule()
  : Node("decision"),
    // Older than this, a mask shows where the road was. Choose it by speed: 300 ms are 4 m at 50 km/h.
    budget_ms_(declare_parameter("budget_ms", 300.0)),
    decision_(create_publisher<String>("~/decision", 10))
  {
    // Both are reliable and volatile: a subscriber that asks for transient local would get nothing.
    mask_subscription_ = create_subscription<Image>(
      "segmentation/mask", rclcpp::QoS(1),
      [this](Image::ConstSharedPtr message) {on_mask(std::move(message));});
    timing_subscription_ = create_subscription<DiagnosticArray>(
      "segmentation/timing", rclcpp::QoS(100),
      [this](DiagnosticArray::ConstSharedPtr message) {on_timing(*message);});
    // Missing masks cause no callback, so somebody has to look at the clock.
    timer_ = create_wall_timer(std::chrono::milliseconds(50), [this]() {watch();});
  }

private:
  void on_mask(Image::ConstSharedPtr message)
  {
    const Stamp stamp{message->header.stamp.sec, message->header.stamp.nanosec};
    waiting_[stamp].mask = std::move(message);
    match(stamp);
  }

  // There is a record for every frame, masked or dropped.
  void on_timing(const DiagnosticArray & message)
  {
    if (message.status.empty()) {
      return;
    }
    const auto & status = message.status.front();
    if (status.message != "masked") {
      // superseded is normal under load: a newer frame is on its way. The others are not.
      why_not_ = "the last frame was " + status.message;
      return;
    }
    auto record = std::make_unique<Values>();
    for (const auto & pair : status.values) {
      (*record)[pair.key] = pair.value;
    }
    const Stamp stamp{message.header.stamp.sec, message.header.stamp.nanosec};
    waiting_[stamp].record = std::move(record);
    match(stamp);
  }

  void match(const Stamp & stamp)
  {
    const auto found = waiting_.find(stamp);
    if (found->second.mask && found->second.record) {
      const Frame frame = std::move(found->second);
      waiting_.erase(found);
      decide(*frame.mask, *frame.record);
    }
    // The oldest stamp goes; where that is the newest frame, a bag has started again and all others go.
    if (waiting_.size() > kWaiting) {
      const auto oldest = waiting_.begin();
      if (oldest->first == stamp) {
        waiting_.erase(std::next(oldest), waiting_.end());
      } else {
        waiting_.erase(oldest);
      }
    }
  }

  void decide(const Image & mask, const Values & record)
  {
    // The node knows the age on the clock of the stamps; `late` is what its own deadline_ms makes of it.
    const auto known = record.find("age");
    const double age = std::stod(known != record.end() ? known->second : record.at("total"));
    if (record.at("late") == "true" || age > budget_ms_) {
      why_not_ = "the last mask was " + std::to_string(static_cast<long>(age)) + " ms old";
      return;
    }
    seen_until_ = Steady::now() +
      std::chrono::duration_cast<Steady::duration>(std::chrono::duration<double, std::milli>(budget_ms_ - age));
    std::size_t road = 0, people = 0, all = 0;
    for (std::size_t row = mask.height / 2; row < mask.height; ++row) {
      for (std::size_t column = mask.width / 4; column < mask.width - mask.width / 4; ++column) {
        // Rows may be padded, so they are step bytes apart.
        const auto category = mask.data[row * mask.step + column];
        road += category == kFlat;
        people += category == kHuman;
        ++all;
      }
    }
    say(people * 100 > all ? "yield: somebody is on the road" : road * 2 > all ? "go" : "yield: no road ahead");
  }

  // Says so when the newest usable mask has become too old, and keeps saying so.
  void watch()
  {
    if (Steady::now() > seen_until_) {
      say("slow down: " + why_not_);
    }
  }

  void say(const std::string & text)
  {
    String message;
    message.data = text;
    decision_->publish(message);
    RCLCPP_INFO_THROTTLE(get_logger(), *get_clock(), 500, "%s", text.c_str());
  }

  double budget_ms_;
  rclcpp::Publisher<String>::SharedPtr decision_;
  rclcpp::Subscription<Image>::SharedPtr mask_subscription_;
  rclcpp::Subscription<DiagnosticArray>::SharedPtr timing_subscription_;
  rclcpp::TimerBase::SharedPtr timer_;
  std::map<Stamp, Frame> waiting_;
  Steady::time_point seen_until_ = Steady::now();
  std::string why_not_ = "no mask has come yet";
};

int main(int argc, char ** argv)
{
  rclcpp::init(argc, argv);
  rclcpp::spin(std::make_shared<DecisionModule>());
  rclcpp::shutdown();
  return 0;
}
