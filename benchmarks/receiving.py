"""Who takes the frames: a thread of their own or one of rclpy's executors, beside an engine that computes all the time.

    python benchmarks/receiving.py [--model BUNDLE] [--frames 240] [--repetitions 2]

A camera process publishes 1280x720 frames at 30 Hz, best effort. Another process takes them as serialised messages, by
``seg_node.ros.transfer.receiver`` or by a subscription of an executor, and infers frame after frame in another thread.
All take turns, A B C A B C. The node needs the executor of several threads for its services, which may take seconds.
"""

import argparse
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from setting import HD, isolated, percentiles, profile_environment, python_path, street

from seg_node.bags.images import decode
from seg_node.core.bundle import load_bundle
from seg_node.core.engines import create_engine

KINDS = ("SingleThreadedExecutor", "MultiThreadedExecutor", "receiver")
_TOPIC = "receiving_benchmark"
_QUIET_S = 2.0
"""So long after the last frame a run is over."""


def measure(kind: str, model: str, frames: int, hz: float = 30.0) -> dict[str, Any]:
    """One run in two fresh processes.

    Args:
        kind: of ``KINDS``.
        model: bundle that is inferred meanwhile.
        frames: that the camera publishes.
        hz: how fast.

    Returns:
        ``kind``; ``sent``; ``received``; ``p50_ms`` and ``p99_ms`` from publishing a frame until its callback began;
        ``inference_ms``, the median beside it.
    """
    environment = profile_environment("shipped") | python_path()
    with ThreadPoolExecutor(1) as pool:
        receiving = pool.submit(isolated, _receive, kind, model, environment=environment)
        sent = isolated(_send, frames, hz, environment=environment)
        delays, inferences = receiving.result()
    return {
        "kind": kind,
        "sent": sent,
        "received": len(delays),
        **percentiles(np.array(delays)),
        "inference_ms": float(np.median(inferences)),
    }


def _send(frames: int, hz: float) -> int:
    """Publish frames stamped with ``time.monotonic_ns``."""
    import rclpy
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    from seg_node.rig.player import to_message
    from seg_node.ros.frame_source import CAMERA_QOS

    rclpy.init(args=[])
    node = rclpy.create_node("receiving_camera")
    publisher = node.create_publisher(Image, _TOPIC, CAMERA_QOS)
    message = to_message(street(HD, 1).frames[0])
    while not publisher.get_subscription_count():
        time.sleep(0.05)
    # The other side learns of this one by itself.
    time.sleep(1.0)
    began = time.monotonic()
    for i in range(frames):
        time.sleep(max(0.0, began + i / hz - time.monotonic()))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.monotonic_ns(), 10**9)
        publisher.publish(serialize_message(message))
    time.sleep(_QUIET_S)
    rclpy.shutdown()
    return frames


def _receive(kind: str, model: str) -> tuple[list[float], list[float]]:
    """Milliseconds of every frame's way here, and of every inference since the first frame came."""
    from seg_node.core.memory import keep_memory_steady

    # As in the node, before rclpy is imported.
    keep_memory_steady()

    import rclpy
    from rclpy import executors
    from sensor_msgs.msg import Image

    from seg_node.ros.frame_source import CAMERA_QOS
    from seg_node.ros.transfer.receiver import Receiver
    from seg_node.ros.transfer.serialized_image import SerializedImage

    frame = decode(street(HD, 1).frames[0])
    engine = create_engine(load_bundle(model))
    engine.warm_up(HD)
    delays: list[float] = []
    newest = 0.0

    def callback(data: bytes | np.ndarray, info: object) -> None:
        nonlocal newest
        newest = time.monotonic()
        delays.append(1e3 * newest - SerializedImage(data).stamp / 1e6)

    rclpy.init(args=[])
    node = rclpy.create_node("receiving_node")
    if kind == "receiver":
        Receiver(node, Image, _TOPIC, callback, CAMERA_QOS)
    else:
        node.create_subscription(Image, _TOPIC, callback, CAMERA_QOS, raw=True)
        executor = (
            executors.MultiThreadedExecutor(2) if kind.startswith("Multi") else executors.SingleThreadedExecutor()
        )
        executor.add_node(node)

        def spin() -> None:
            with contextlib.suppress(executors.ExternalShutdownException):
                executor.spin()

        threading.Thread(target=spin, daemon=True).start()
    inferences = []
    while not newest or time.monotonic() - newest < _QUIET_S / 2:
        began = time.monotonic()
        engine.infer(frame)
        if newest:
            inferences.append(1e3 * (time.monotonic() - began))
    rclpy.shutdown()
    return delays, inferences


def row_text(row: dict[str, Any]) -> str:
    """One row for people."""
    return (
        f"{row['kind']:<22} received {row['received']:>4} of {row['sent']}, publication to callback"
        f" {row['p50_ms']:.1f} / {row['p99_ms']:.1f} ms; an inference beside it {row['inference_ms']:.1f} ms"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fpn_resnet50", metavar="BUNDLE", help="default: %(default)s")
    parser.add_argument("--frames", type=int, default=240, help="of each run; default: %(default)s")
    parser.add_argument("--repetitions", type=int, default=2, help="default: %(default)s")
    options = parser.parse_args()
    for _ in range(options.repetitions):
        for one in KINDS:
            print(row_text(measure(one, options.model, options.frames)), flush=True)
