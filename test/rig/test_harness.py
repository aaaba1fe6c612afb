"""The replay harness: schedules, matching and figures by hand, and real processes whose behaviour is known."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import FAKE_NODE

from seg_node.bags.drive import Drive, Frame, Masks
from seg_node.bags.reader import TopicQos
from seg_node.core.images import RawPixels
from seg_node.core.timing import FrameRecord, Outcome, Stage
from seg_node.rig.frames import ArrivedMask, FrameObservation, Run, UsageSample
from seg_node.rig.matching import match
from seg_node.rig.monitor_process import MonitorError, MonitorProcess
from seg_node.rig.node_process import NodeError, NodeProcess
from seg_node.rig.recording import Observed
from seg_node.rig.schedule import RECORDED, Rate, make_schedule
from seg_node.rig.scoring import Distribution, longest_blind, summarise
from seg_node.rig.usage import ProcessUsage

MS = 10**6
S = 10**9


def drive_of(stamps: list[int], log_times: list[int] | None = None) -> Drive:
    """A drive of 8x6 images, at 50 Hz unless log times are given."""
    image = RawPixels(6, 8, "bgr8", 0, 24, np.zeros(6 * 24, np.uint8))
    times = log_times or [7 * S + i * 20 * MS for i in range(len(stamps))]
    frames = [Frame(time, stamp, "camera", image) for time, stamp in zip(times, stamps, strict=True)]
    return Drive(Path("made_up"), "/camera/image", frames, None, None, Masks({}))


class TestSchedule:
    """When frames are due, in milliseconds after the start."""

    drive = drive_of([1, 2, 3], [5 * S, 5 * S + 30 * MS, 5 * S + 100 * MS])

    def due(self, rate: str, **options) -> list[float]:
        return [due / MS for due in make_schedule(self.drive, Rate.parse(rate), **options).due]

    def test_recorded_keeps_the_irregularities(self):
        assert self.due("recorded") == [0, 30, 100]
        assert make_schedule(self.drive).hz == pytest.approx(20.0)

    def test_factor_scales_them(self):
        assert self.due("2x") == [0, 15, 50]
        assert self.due("0.5x") == [0, 60, 200]

    def test_hz_is_even_and_max_is_at_once(self):
        assert self.due("10") == [0, 100, 200]
        assert self.due("max") == [0, 0, 0]

    def test_a_loop_begins_one_mean_period_after_the_last_frame(self):
        assert self.due("recorded", loops=2) == [0, 30, 100, 150, 180, 250]
        assert make_schedule(self.drive, loops=2).frames == (0, 1, 2, 0, 1, 2)

    def test_a_number_of_frames_loops_as_needed(self):
        schedule = make_schedule(self.drive, Rate("hz", 100.0), frames=4)
        assert schedule.frames == (0, 1, 2, 0)
        assert [due / MS for due in schedule.due] == [0, 10, 20, 30]

    def test_rates_are_written_as_they_are_read(self):
        for text in ("recorded", "10", "12.5", "1.5x", "max"):
            assert str(Rate.parse(text)) == text
        assert Rate.parse("1x") == RECORDED

    def test_a_drive_recorded_at_one_instant_needs_a_rate(self):
        drive = drive_of([1, 2], [5, 5])
        with pytest.raises(ValueError, match="recorded at one instant; give a rate"):
            make_schedule(drive)
        assert make_schedule(drive, Rate("hz", 2.0)).due == (0, S // 2)


def record(outcome: Outcome = Outcome.MASKED, total: float = 10.0) -> FrameRecord:
    return FrameRecord(outcome, "m", {}, total)


def mask(arrived: int, value: int = 0) -> ArrivedMask:
    return ArrivedMask(arrived, (1, 1), zlib.compress(bytes([value])))


def sent_at(*times: int, stamps: list[int] | None = None) -> list[tuple[int, int, int, int]]:
    """Published frames, sent at so many milliseconds."""
    return [(i, (stamps or [1] * len(times))[i], t * MS, t * MS) for i, t in enumerate(times)]


class TestMatching:
    """To which of several frames of one header stamp a mask or record belongs. Times in milliseconds."""

    def indices(self, published, masks=(), records=()):
        """Index of the frame that got each mask and each record, in their order; None where none did."""
        masks = [(stamp, mask(at * MS)) for stamp, at in masks]
        records = [(stamp, at * MS, record(outcome, total)) for stamp, at, outcome, total in records]
        frames, strangers, repeated = match(published, masks, records)
        found_masks = [next((f.index for f in frames if f.mask is m), None) for _, m in masks]
        found_records = [next((f.index for f in frames if f.record is r), None) for _, _, r in records]
        return found_masks, found_records, strangers, repeated

    def test_second_loop_does_not_answer_for_the_first(self):
        # The frame was lost in the first loop.
        found = self.indices(sent_at(0, 100), [(1, 130)], [(1, 131, Outcome.MASKED, 20)])
        assert found == ([1], [1], 0, 0)

    def test_latency_longer_than_the_loop(self):
        # Sent at 0 and 100; masked after 150 each, so the first mask comes when the second frame was sent.
        records = [(1, 151, Outcome.MASKED, 150), (1, 251, Outcome.MASKED, 150)]
        assert self.indices(sent_at(0, 100), [(1, 150), (1, 250)], records) == ([0, 1], [0, 1], 0, 0)

    def test_all_stamps_alike_and_one_superseded(self):
        # Frame 0 is masked until 90; frame 2, sent at 60, supersedes frame 1, sent at 30.
        records = [(1, 61, Outcome.SUPERSEDED, 30), (1, 91, Outcome.MASKED, 90), (1, 151, Outcome.MASKED, 90)]
        assert self.indices(sent_at(0, 30, 60), [(1, 90), (1, 150)], records) == ([0, 2], [1, 0, 2], 0, 0)

    def test_without_a_record_the_latest_frame_before_gets_the_mask(self):
        assert self.indices(sent_at(0, 100), [(1, 130)]) == ([1], [], 0, 0)
        assert self.indices(sent_at(0, 100), [(1, 99)]) == ([0], [], 0, 0)

    def test_reordered_masks(self):
        published = sent_at(0, 30, stamps=[5, 4])
        assert self.indices(published, [(4, 50), (5, 60)]) == ([1, 0], [], 0, 0)

    def test_strangers_and_repeated_are_counted(self):
        published = sent_at(10, 20, stamps=[1, 2])
        masks = [(7, 30), (2, 15), (1, 16), (1, 17)]
        assert self.indices(published, masks, [(1, 18, Outcome.STALE, 1), (1, 19, Outcome.STALE, 1)]) == (
            [None, None, 0, None],
            [0, None],
            2,
            2,
        )


def observation(index: int, sent: float, arrived: float | None, end: Outcome = Outcome.MASKED) -> FrameObservation:
    """Times in milliseconds. The node published a mask 2 ms before it arrived."""
    seen = None
    if arrived is not None:
        seen = ArrivedMask(round(arrived * MS), (1, 1), zlib.compress(b"\0"), round((arrived - 2) * MS))
    at = round(sent * MS)
    return FrameObservation(index, index, index, at, at, FrameRecord(end, "m", {Stage.INFERENCE: 5.0}, 6.0), at, seen)


def test_figures_of_a_run_by_hand():
    frames = [
        observation(0, 0, 500),
        observation(1, 100, 150),
        observation(2, 200, None, Outcome.SUPERSEDED),
        observation(3, 300, 390),
        observation(4, 400, 460),
    ]
    usage = [UsageSample(0, 1.0, 100), UsageSample(S, 2.5, 300), UsageSample(2 * S, 3.0, 200)]
    idle = [UsageSample(0, 0.5, 100), UsageSample(2 * S, 0.6, 100)]
    counters = {"received": 5, "masked": 4, "pending": 0, "late": 0, "dropped.superseded": 1}
    counters |= {f"dropped.{reason}": 0 for reason in ("stale", "undecodable", "failed")}

    result = summarise(Run({}, frames, counters, warm_up=1, usage=usage, idle=idle))

    assert result.faults == []
    # All frames are counted, the first one is in nothing else.
    assert (result.sent, result.received, result.lost, result.masked, result.warm_up) == (5, 5, 0, 4, 1)
    assert result.camera_to_mask == Distribution.of([50.0, 90.0, 60.0])
    assert result.age_at_publish == Distribution.of([48.0, 88.0, 58.0])
    # Arrivals at 150, 390 and 460.
    assert result.mask_interval == Distribution.of([240.0, 70.0])
    assert result.jitter == pytest.approx(85.0)
    assert result.delay_variation == pytest.approx(60 + 0.98 * 30 - 50)
    # From 150 until 390; from the first frame at 100 and until the last at 400 it is shorter.
    assert result.longest_blind == pytest.approx(240.0)
    # Three masks for four frames in 300 ms between the first and the last of them, which is 400 ms with the last's.
    assert result.masks_per_second == pytest.approx(3 / 0.4)
    assert result.usage == {
        "cpu_cores": pytest.approx(1.0),
        "idle_cpu_cores": pytest.approx(0.05),
        "rss_peak_bytes": 300,
        "gpu_percent": None,
        "gpu_peak_bytes": None,
    }


def test_a_mask_that_was_overtaken_ends_no_blind_interval():
    frames = [observation(0, 0, 350), observation(1, 100, 150), observation(2, 200, None), observation(3, 500, 520)]
    assert longest_blind(frames) == pytest.approx(350.0)
    assert longest_blind(frames[:1] + [observation(1, 100, None)]) == pytest.approx(100.0)


def test_what_the_monitor_hands_over_is_read_back(tmp_path):
    observed = Observed(
        [(5, ArrivedMask(10, (2, 3), zlib.compress(bytes(range(6))), 9)), (4, ArrivedMask(11, (1, 1), b"x"))],
        [(5, 12, FrameRecord(Outcome.FAILED, "m", {Stage.WAIT: 1.5}, 2.0, 3.0, True, "why"))],
        [UsageSample(1, 2.5, 3), UsageSample(2, 3.5, 4, 50.0, 6)],
    )
    observed.save(tmp_path / "observed.npz")
    assert Observed.load(tmp_path / "observed.npz") == observed
    assert observed.masks[0][1].decode().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_usage_of_a_process():
    # A fresh process: memory that an old one asks for may be its own, freed before.
    work = "input(); held = bytes(50_000_000).replace(b'\\0', b'1'); sum(range(3_000_000)); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        usage = ProcessUsage(process.pid)
        first = usage.sample()
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        second = usage.sample()
        process.communicate(b"\n")
    assert second.cpu_s > first.cpu_s and second.time > first.time
    assert second.rss - first.rss >= 40_000_000
    assert ProcessUsage(2**22 - 1).sample() is None


def test_monitor_keeps_rows_without_padding_and_compresses_early_where_memory_is_short(ros, monkeypatch):
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    from seg_node.rig import monitor as module

    monkeypatch.setattr(module, "_RAW_BYTES", 0)
    monitor = module.Monitor("/nobody", os.getpid())
    padded = Image(height=2, width=3, encoding="mono8", step=4, data=[1, 2, 3, 99, 4, 5, 6, 99])
    padded.header.stamp.sec = 5
    for source_time in (0, monitor._since_epoch + 7):
        monitor._on_mask(np.frombuffer(serialize_message(padded), np.uint8), source_time)
    monitor.shrink()
    assert not monitor._raw_masks

    (stamp, first), (_, second) = monitor.observed().masks
    assert stamp == 5 * S and first.decode().tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (first.published, second.published) == (None, 7)
    assert monitor.seen().masks == 2 and not monitor.seen().matched
    monitor.destroy_node()


@pytest.fixture
def fake(ros, tmp_path):
    """Start a fake node with a table: ``fake({stamp: rows}, transports) -> (process, log of masks)``."""
    started = []

    def start(table: dict[int, list], transports: str = "raw compressed") -> tuple[NodeProcess, Path]:
        files = tmp_path / "table.json", tmp_path / "masks.log"
        files[0].write_text(json.dumps(table))
        process = NodeProcess(
            tmp_path / "node.log",
            namespace=f"/fake{len(started)}",
            environment={
                "PYTHONPATH": os.pathsep.join([str(FAKE_NODE.parents[1]), os.environ.get("PYTHONPATH", "")]),
                "FAKE_NODE_TRANSPORTS": transports,
            },
            command=[sys.executable, str(FAKE_NODE), *map(str, files)],
        )
        process.start()
        started.append(process)
        return process, files[1]

    yield start
    for process in started:
        process.stop()


def play(process, drive, schedule, folder, **options) -> Run:
    from seg_node.rig.bench import Bench

    with Bench(drive, process, folder, qos="reliable") as bench:
        return bench.play(schedule, **options)


def test_known_delays_drops_losses_and_reorderings_are_found(fake, tmp_path):
    ends = {
        0: ["masked", 5],
        1: ["masked", 35],
        # Overtaken by the next one, even where a busy machine holds that one up.
        2: ["masked", 300],
        3: ["masked", 10],
        4: ["superseded", 1],
        5: ["stale", 2],
        6: ["undecodable", 3],
        7: ["failed", 4],
        8: ["unseen", 0],
        9: ["masked", 20],
    }
    stamps = [S + i for i in range(60)]
    process, log = fake({stamp: [ends[i % 10]] for i, stamp in enumerate(stamps)})

    run = play(process, drive_of(stamps), make_schedule(drive_of(stamps), Rate("hz", 25.0)), tmp_path)
    result = summarise(run)

    assert result.faults == []
    assert (result.sent, result.received, result.lost, result.masked, result.masks_arrived) == (60, 54, 6, 30, 30)
    assert result.dropped == {"superseded": 6, "stale": 6, "undecodable": 6, "failed": 6}
    published = dict(map(int, line.split()) for line in log.read_text().splitlines())
    ways_back, surplus = [], []
    for frame in run.frames:
        outcome, delay = ends[frame.index % 10]
        assert (frame.record.outcome.value if frame.record else "unseen") == outcome
        assert (frame.mask is not None) == (outcome == "masked")
        if frame.mask:
            ways_back.append((frame.mask.arrived - published[frame.stamp]) / 1e6)
            surplus.append((frame.mask.arrived - frame.sent) / 1e6 - delay)
    # A busy machine holds frames up and never brings one forward: none is found before the fake node has published it,
    # and the quickest right after.
    assert 0 <= min(ways_back) < 2
    assert min(surplus) >= 0
    arrivals = {frame.index: frame.mask.arrived for frame in run.frames if frame.mask}
    assert all(arrivals[i + 2] > arrivals[i + 3] for i in range(0, 60, 10))
    assert [frame.sent - frame.due >= 0 for frame in run.frames] == [True] * 60
    assert min(frame.sent - frame.due for frame in run.frames) < MS


def test_loops_with_backward_stamps_are_matched_exactly(fake, tmp_path):
    loops = {
        3 * S: [["masked", 4], ["unseen", 0], ["stale", 1]],
        2 * S: [["unseen", 0], ["masked", 30], ["masked", 2]],
        1 * S: [["superseded", 1], ["masked", 8], ["unseen", 0]],
    }
    drive = drive_of(list(loops))
    process, log = fake(loops)

    # A loop takes longer than a busy machine holds a message up, which is where the rule of matching has its limit.
    run = play(process, drive, make_schedule(drive, Rate("hz", 2.0), loops=3), tmp_path, warm_up=2)

    assert run.strangers == run.repeated == 0 and summarise(run).faults == []
    assert [frame.frame for frame in run.frames] == [0, 1, 2] * 3
    expected = [rows[loop] for loop in range(3) for rows in loops.values()]
    found = [frame.record.outcome.value if frame.record else "unseen" for frame in run.frames]
    assert found == [outcome for outcome, _ in expected]
    published = [int(line.split()[1]) for line in log.read_text().splitlines()]
    arrived = sorted(frame.mask.arrived for frame in run.frames if frame.mask)
    assert len(published) == len(arrived) == 4
    assert 0 <= min(there - here for here, there in zip(sorted(published), arrived, strict=True)) < 2 * MS
    for frame, (outcome, delay) in zip(run.frames, expected, strict=True):
        if outcome == "masked":
            assert delay <= (frame.mask.arrived - frame.sent) / 1e6
            assert frame.sent < published[arrived.index(frame.mask.arrived)] <= frame.mask.arrived
            assert frame.mask.decode().tolist() == [[frame.stamp // S] * 8] * 6
        else:
            assert frame.mask is None
    assert summarise(run).warm_up == 2 and summarise(run).camera_to_mask.count == 3


def test_runs_of_one_bench_do_not_mix(fake, tmp_path):
    from seg_node.rig.bench import Bench

    drive = drive_of([1, 2])
    process, _ = fake({1: [["masked", 1]] * 2, 2: [["masked", 300], ["failed", 1]]})
    shown, results = [], []
    with Bench(drive, process, tmp_path, qos="reliable") as bench:
        idle = bench.idle(0.5)
        for _ in range(2):
            schedule = make_schedule(drive, Rate("hz", 50.0))
            played = bench.play(schedule, progress=lambda sent, seen: shown.append((sent, seen.records, seen.masks)))
            results.append(summarise(played))
            # What came after the last frame was sent is shown, too.
            assert shown[-1] == (2, 2, results[-1].masked)
        assert bench.topic == f"{process.full_name.rpartition('/')[0]}/image"
    assert [result.masked for result in results] == [2, 1]
    assert [result.faults for result in results] == [[], []]
    assert len(idle) >= 2 and idle[0].rss > 10 * 2**20
    assert results[0].setup["model"] == "fake"


def test_what_does_not_add_up_is_a_fault(fake, tmp_path, monkeypatch):
    from seg_node.rig import bench as module

    monkeypatch.setattr(module, "_QUIET_S", 2.0)
    drive = drive_of([1, 2, 3, 4])
    process, _ = fake(
        {1: [["masked", 1, "no record"]], 2: [["masked", 1, "twice"]], 3: [["stale", 1]], 4: [["masked", 1, "no mask"]]}
    )

    result = summarise(play(process, drive, make_schedule(drive, Rate("hz", 50.0)), tmp_path))

    assert (result.masked, result.masks_arrived) == (2, 2)
    assert result.faults == [
        "2 records or masks came twice for one frame",
        "1 masks arrived for frames that the node does not report as masked",
        "the node counted 3 frames masked, its timing records 2",
    ]


def test_node_that_dies_during_a_run_is_named(fake, tmp_path):
    stamps = list(range(1, 200))
    process, _ = fake({stamp: [["masked", 1] + ["die"] * (stamp == 20)] for stamp in stamps})
    drive = drive_of(stamps)
    with pytest.raises(NodeError, match="(?s)ended with exit code 3.*dying as told"):
        play(process, drive, make_schedule(drive), tmp_path)


def test_monitor_that_dies_during_a_run_is_named(fake, tmp_path):
    from seg_node.rig.bench import Bench

    stamps = list(range(1, 200))
    process, _ = fake({stamp: [["masked", 1]] for stamp in stamps})
    drive = drive_of(stamps)
    with (
        Bench(drive, process, tmp_path, qos="reliable") as bench,
        pytest.raises(MonitorError, match="monitor process ended with exit code -9"),
    ):
        bench.play(make_schedule(drive), progress=lambda *_: os.kill(bench.monitor_pid, signal.SIGKILL))


def test_what_fast_dds_prints_goes_to_the_log_and_the_monitor_goes_on(ros, tmp_path):
    profile = tmp_path / "profile.xml"
    profile.write_text("<dds><profiles><nonsense/></profiles></dds>")
    variables = dict.fromkeys(["FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"], str(profile))
    with MonitorProcess("/nobody", None, tmp_path, variables) as monitor:
        monitor.begin()
        assert monitor.end().masks == []
    assert "nonsense" in monitor.log.read_text()


def test_monitor_that_hangs_is_named(ros, tmp_path, monkeypatch):
    from seg_node.rig import monitor_process

    monkeypatch.setattr(monitor_process, "_ANSWER_S", 0.5)
    with MonitorProcess("/nobody", None, tmp_path) as monitor:
        os.kill(monitor.pid, signal.SIGSTOP)
        with pytest.raises(MonitorError, match="does not answer 'begin' within"):
            monitor.begin()
    assert not Path(f"/proc/{monitor.pid}").exists()


def test_what_the_monitor_cannot_write_is_named(ros, tmp_path, monkeypatch):
    """Its log may lie on the same full disk."""
    from seg_node.rig import monitor_process

    class Nowhere(monitor_process.tempfile.TemporaryDirectory):
        def __enter__(self):
            return str(Path(super().__enter__()) / "gone")

    monkeypatch.setattr(monitor_process.tempfile, "TemporaryDirectory", Nowhere)
    with MonitorProcess("/nobody", None, tmp_path) as monitor:
        monitor.begin()
        with pytest.raises(MonitorError, match="cannot write .*/gone/observed.npz: No such file or directory"):
            monitor.end()


def test_attached_node_is_fed_where_it_listens(fake, tmp_path):
    from seg_node.rig.bench import AttachedNode, replay_once

    process, _ = fake({1: [["masked", 1]], 2: [["stale", 1]]})
    drive = drive_of([1, 2])

    run = replay_once(drive, AttachedNode(process.full_name), make_schedule(drive), tmp_path, qos="reliable")

    result = summarise(run)
    assert (result.faults, result.masked, result.usage) == ([], 1, None)
    assert process.exit_code is None, "it was not started here, so it is not stopped here"


@pytest.mark.parametrize(("held", "wanted"), [("raw", "compressed"), ("compressed", "raw")])
def test_attached_node_of_the_other_transport_is_fed_what_it_takes(fake, tmp_path, held, wanted):
    from seg_node.bags.images import with_transport
    from seg_node.rig.bench import AttachedNode, replay_once

    process, _ = fake({1: [["masked", 1]], 2: [["masked", 1]]}, wanted)
    drive = with_transport(drive_of([1, 2]), held)
    attached, schedule = AttachedNode(process.full_name), make_schedule(drive)
    with pytest.raises(NodeError, match="subscribes to 0 topics of type .*choose the other --image-transport"):
        replay_once(drive, attached, schedule, tmp_path, qos="reliable")

    run = replay_once(drive, attached, schedule, tmp_path, qos="reliable", convert=True)
    result = summarise(run)
    assert (result.faults, result.masked, run.setup["transport"]) == ([], 2, wanted)


def test_attaching_to_nobody_is_an_error(ros, tmp_path, monkeypatch):
    from seg_node.rig import bench as module

    monkeypatch.setattr(module, "DISCOVERY_S", 1.0)
    drive = drive_of([1])
    with pytest.raises(NodeError, match="/nobody is not there, or subscribes to no image topic"):
        module.replay_once(drive, module.AttachedNode("/nobody"), make_schedule(drive), tmp_path)


def test_subscription_that_wants_another_qos_is_named(fake, tmp_path, monkeypatch):
    from seg_node.rig import bench as module

    process, _ = fake({1: [["masked", 1]]})
    # What is waited for in vain takes as long as all that is there.
    with module.Bench(drive_of([1]), process, tmp_path, qos="reliable"):
        pass
    monkeypatch.setattr(module, "DISCOVERY_S", 8.0)
    wanted = "/image, or not with the QoS of the player \\(best_effort; see --qos\\)"
    with pytest.raises(NodeError, match=wanted), module.Bench(drive_of([1]), process, tmp_path):
        pass


def test_qos_is_the_recorded_one_or_the_given(ros):
    from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

    from seg_node.rig.player import publisher_qos

    plain = drive_of([1])
    recorded = dataclasses.replace(plain, qos=TopicQos("reliable", "transient_local", 7))
    assert publisher_qos(plain).reliability == ReliabilityPolicy.BEST_EFFORT
    found = publisher_qos(recorded)
    assert (found.reliability, found.durability, found.depth) == (
        ReliabilityPolicy.RELIABLE,
        DurabilityPolicy.TRANSIENT_LOCAL,
        7,
    )
    assert publisher_qos(recorded, "best_effort").reliability == ReliabilityPolicy.BEST_EFFORT


def test_clock_follows_the_log_times_and_other_cameras_play_along(ros, fake, tmp_path, monkeypatch):
    import threading

    from rclpy.executors import SingleThreadedExecutor
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import Image

    from seg_node.rig import player
    from seg_node.rig.bench import Bench

    # Messages that do not fit into memory are built one by one.
    monkeypatch.setattr(player, "_free_memory", lambda: 0)
    rear = dataclasses.replace(drive_of([11, 12]), topic="/rear/image")
    drive = drive_of([1, 2, 3], [5 * S, 5 * S + 100 * MS, 5 * S + 200 * MS])
    process, _ = fake({stamp: [["masked", 1]] * 50 for stamp in (1, 2, 3)})
    node = ros.create_node("clock_listener")
    ticks: list[int] = []
    node.create_subscription(Clock, "/clock", lambda m: ticks.append(m.clock.sec * S + m.clock.nanosec), 100)
    others: list[int] = []
    node.create_subscription(Image, "/fake0/rear/image", lambda m: others.append(m.header.stamp.nanosec), 100)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    with Bench(drive, process, tmp_path, qos="reliable", clock=True, alongside=[rear]) as bench:
        # The bench waits for the node; this listener is none of its business, and may be found later.
        for _ in range(20):
            if ticks and others:
                break
            bench.play(make_schedule(drive, Rate.parse("2x")))
        ticks.clear()
        others.clear()
        run = bench.play(make_schedule(drive, Rate.parse("0.5x"), loops=2))
    executor.shutdown()
    thread.join()
    node.destroy_node()

    assert (summarise(run).faults, summarise(run).masked) == ([], 6)
    assert others == [11, 12, 11] * 2
    back = [i for i, (a, b) in enumerate(zip(ticks, ticks[1:], strict=False)) if b < a]
    assert len(back) == 1, "time goes backward once, where the drive starts again"
    assert {frame.log_time for frame in drive.frames} <= set(ticks)
    assert len(ticks) > 20 and min(ticks) == 5 * S and max(ticks) == 5 * S + 200 * MS


def test_highest_rate_of_a_node_of_known_speed(ros, monkeypatch):
    from seg_node.rig import rates

    class FakeBench:
        """Masks at most 23 frames per second."""

        drive = drive_of([1, 2, 3])

        def play(self, schedule):
            kept = min(1.0, 23.0 / schedule.hz)
            every = [round(i * kept) != round((i + 1) * kept) for i in range(len(schedule.frames))]
            answer = FrameRecord(Outcome.MASKED, "m", {Stage.INFERENCE: 40.0, Stage.DECODE: 1.0}, 41.0)
            frames = [
                FrameObservation(i, 0, 1, due, due, answer if kept else None, due, mask(due) if kept else None)
                for i, (due, kept) in enumerate(zip(schedule.due, every, strict=True))
            ]
            return Run({}, frames, {})

    found = rates.highest_rate(FakeBench())

    assert 23 / 1.05 <= found.hz <= 23 * 1.011
    assert found.bounded and len(found.probes) <= 8
    assert found.probes[0].rate == pytest.approx(1000 / 41)
    assert all(probe.passed == (probe.rate <= 23 * 1.011) for probe in found.probes)
    few = rates.highest_rate(FakeBench(), start=400.0, max_probes=2)
    assert few.hz is None and not few.bounded and [probe.passed for probe in few.probes] == [False, False]


def test_harness_alone_accounts_for_every_frame(ros):
    from seg_node.rig.loopback import self_test

    found = self_test((120, 160), rates=(20.0, 50.0))

    assert found["sustained_hz"] == 50.0
    assert [(probe["sent"], probe["received"], probe["masked"]) for probe in found["probes"]] == [(60,) * 3, (150,) * 3]
