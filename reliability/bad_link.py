"""Two network namespaces with a bad link between them, for as long as stdin is open; needs root and ``ip``.

    python reliability/bad_link.py NEAR FAR

Makes the namespaces NEAR (10.231.0.1) and FAR (10.231.0.2), each with an Ethernet device of the same name. What one
sends the other gets 30 ms later, but for 5 % of the packets. Done by hand on TAP devices, because the kernel's netem is
a module that not every machine has. Prints ``ready``; the lines ``down`` and ``up`` on stdin cut and mend the link.
"""

import contextlib
import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import deque

LOSS = 0.05
DELAY_S = 0.03

# Of linux/if_tun.h.
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_MTU = 65536


def open_tap(name: str) -> int:
    """Make an Ethernet device whose other end is the file descriptor that is returned."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return tap


def ip(*arguments: str) -> None:
    """Run ``ip``; raises ``CalledProcessError``."""
    subprocess.run(["ip", *arguments], check=True)


def attach(name: str, address: str) -> int:
    """Make a namespace with a device; returns the device's other end."""
    ip("netns", "add", name)
    tap = open_tap(name)
    ip("link", "set", name, "netns", name)
    ip("-n", name, "address", "add", address, "dev", name)
    for device in ("lo", name):
        ip("-n", name, "link", "set", device, "up", "multicast", "on")
    return tap


def relay(ends: list[int]) -> None:
    """Carry packets until stdin is closed."""
    under_way: deque[tuple[float, int, bytes]] = deque()
    up = True
    while True:
        left = under_way[0][0] - time.monotonic() if under_way else None
        readable, _, _ = select.select([*ends, sys.stdin], [], [], None if left is None else max(0.0, left))
        if sys.stdin in readable:
            line = sys.stdin.readline()
            if not line:
                return
            up = line.strip() == "up"
        for end in ends:
            if end in readable:
                packet = os.read(end, _MTU)
                if up and random.random() >= LOSS:
                    under_way.append((time.monotonic() + DELAY_S, ends[end == ends[0]], packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, end, packet = under_way.popleft()
            # A full queue of the kernel is one more lost packet.
            with contextlib.suppress(OSError):
                os.write(end, packet)


def main() -> int:
    """Make the link, carry packets, and remove it; returns the exit status."""
    addresses = dict(zip(sys.argv[1:3], ("10.231.0.1/24", "10.231.0.2/24"), strict=True))
    try:
        ends = [attach(name, address) for name, address in addresses.items()]
        print("ready", flush=True)
        relay(ends)
    except (OSError, subprocess.CalledProcessError) as error:
        print(error, flush=True)
        return 1
    finally:
        for name in addresses:
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
