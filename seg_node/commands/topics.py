"""``seg_node topics``: which topics there are, who is at both ends of one, and what it says."""

import argparse

import yaml

from seg_node.commands.options import full_name, join_graph
from seg_node.core.errors import UserError
from seg_node.core.report.tables import aligned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "topic", nargs="?", metavar="TOPIC", type=full_name, help="topic to look at (default: list all)"
    )
    parser.add_argument("--once", action="store_true", help="print the topic's next message as YAML")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="wait for it so long; %(default)g")


def run(options: argparse.Namespace) -> int:
    """Print what is asked for; returns the exit status, 1 where no message came."""
    if options.once and not options.topic:
        raise UserError("--once needs a topic; `seg_node topics` lists them")
    with join_graph() as graph:
        if options.once:
            from seg_node.ros.remote import shown

            message = graph.next_message(options.topic, options.timeout)
            print(yaml.safe_dump(shown(message), sort_keys=False, default_flow_style=None), end="")
        elif options.topic:
            publishers, subscribers = graph.endpoints(options.topic)
            rows = [
                [
                    f"{found.node_namespace.rstrip('/')}/{found.node_name}",
                    role,
                    found.topic_type,
                    *_qos(found.qos_profile),
                ]
                for role, ends in (("publishes", publishers), ("subscribes", subscribers))
                for found in ends
            ]
            if not rows:
                print(f"nobody publishes {options.topic} or subscribes to it; `seg_node topics` lists what there is")
                return 0
            print(aligned((["node", "role", "type", "reliability", "durability"], rows), texts=5))
        else:
            rows = [[name, kind, str(sends), str(takes)] for name, (kind, sends, takes) in graph.topics().items()]
            print(aligned((["topic", "type", "publishers", "subscribers"], rows), texts=2))
    return 0


def _qos(profile) -> list[str]:
    return [profile.reliability.name.lower(), profile.durability.name.lower()]
