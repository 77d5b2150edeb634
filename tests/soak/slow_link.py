#!/usr/bin/env python3
"""slow_link.py NAME_A NAME_B BITS_PER_SECOND DELAY_MS: a wire between two network interfaces which it makes (tun devices, to be moved into the
network namespaces of two hosts): a packet leaves after those before it at the rate of the wire and arrives so much later. For kernels without
netem. Prints "ready" when both are there, runs until it is killed; both interfaces go with it. Needs root and /dev/net/tun.

Packets may be as long as the interfaces allow: 64 kB as between cards that cut them up themselves, since this wire is a program."""
import collections
import fcntl
import os
import select
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PACKET_MAX = 1 << 16
QUEUE_SECONDS = 0.02  # on the wire at most; what comes then is dropped, as by a switch


def interface(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


class Way:
    """One direction of the wire."""

    def __init__(self, source, target, bits_per_second, delay):
        self.source, self.target, self.seconds_per_byte, self.delay = source, target, 8 / bits_per_second, delay
        self.free_at, self.under_way = 0.0, collections.deque()  # when the wire is free, (arrival, packet)

    def take(self, now):
        while True:
            try:
                packet = os.read(self.source, PACKET_MAX)
            except (BlockingIOError, OSError):  # nothing more, or the interface is down
                return
            if self.free_at > now + QUEUE_SECONDS:
                continue
            self.free_at = max(self.free_at, now) + len(packet) * self.seconds_per_byte
            self.under_way.append((self.free_at + self.delay, packet))

    def deliver(self, now):
        """Hands over what has arrived. Returns the seconds until the next packet does, None where none is under way."""
        while self.under_way and self.under_way[0][0] <= now:
            try:
                os.write(self.target, self.under_way.popleft()[1])
            except OSError:
                pass  # the other end is down
        return max(0.0, self.under_way[0][0] - now) if self.under_way else None


def main(names, bits_per_second, delay):
    a, b = (interface(name) for name in names)
    ways = [Way(a, b, bits_per_second, delay), Way(b, a, bits_per_second, delay)]
    print("ready", flush=True)
    os.nice(-10)  # a wire does not wait for those who compute
    waiting = None
    while True:
        select.select([a, b], [], [], waiting)
        now = time.monotonic()
        for way in ways:
            way.take(now)
        pauses = [way.deliver(now) for way in ways]
        waiting = min((pause for pause in pauses if pause is not None), default=None)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__.splitlines()[0])
    main(sys.argv[1:3], float(sys.argv[3]), float(sys.argv[4]) / 1000)
