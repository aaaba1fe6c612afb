"""Where the nodes' processes begin: memory is seen to before an import starts threads."""

from seg_node.core.memory import keep_memory_steady


def segmentation(arguments: list[str] | None = None) -> int:
    """Run the segmentation node until it is interrupted.

    Args:
        arguments: of the command line; those of this process by default.

    Returns:
        The exit status, 2 for parameters that are not right.
    """
    keep_memory_steady()
    from seg_node.ros.segmentation_node import main

    return main(arguments)


def overlay(arguments: list[str] | None = None) -> int:
    """Run the overlay node; see ``segmentation``."""
    keep_memory_steady()
    from seg_node.ros.overlay_node import main

    return main(arguments)


def projection(arguments: list[str] | None = None) -> int:
    """Run the projection node; see ``segmentation``."""
    keep_memory_steady()
    from seg_node.ros.projection.node import main

    return main(arguments)
