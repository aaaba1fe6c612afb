"""A node as a process: from the command line to its exit status."""

import sys
from collections.abc import Callable

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node


def run_node(make_node: Callable[[], Node], name: str, threads: int, arguments: list[str] | None = None) -> int:
    """Run a node until it is interrupted.

    Args:
        make_node: raises ``ValueError`` or ``ParameterException`` where the parameters are not right.
        name: for the log, until the node has one.
        threads: of the executor.
        arguments: of the command line; those of this process by default.

    Returns:
        The exit status, 2 for parameters that are not right.
    """
    rclpy.init(args=sys.argv[1:] if arguments is None else arguments)
    try:
        node = make_node()
    except (ValueError, ParameterException) as error:
        rclpy.logging.get_logger(name).fatal(str(error))
        rclpy.try_shutdown()
        return 2
    executor = MultiThreadedExecutor(num_threads=threads)
    executor.add_node(node)
    try:
        while rclpy.ok():
            try:
                executor.spin()
            except ExternalShutdownException:
                break
            except Exception as error:
                # A callback that fails, on a message that rclpy cannot read for instance, must not end the node.
                node.get_logger().error(f"{type(error).__name__} in a callback: {error}")
    except KeyboardInterrupt:
        pass
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0
