"""Runs on a node: hold packets back and lose some, as a bad Wi-Fi does; for kernels without netem.

    delay.py QUEUE MEAN JITTER LOSS SECONDS

Reads packets from a netfilter queue (iptables -j NFQUEUE) and lets each go after MEAN +- JITTER seconds, or drops it
with the probability LOSS. Standard library only; the message formats are those of linux/netfilter/nfnetlink_queue.h.
"""

import heapq
import random
import select
import socket
import struct
import sys
import time

NFNL_SUBSYS_QUEUE, PACKET, VERDICT, CONFIG = 3, 0, 1, 2
CFG_CMD, CFG_PARAMS, CFG_QUEUE_MAXLEN = 1, 2, 3
BIND, COPY_META = 1, 1
DROP, ACCEPT = 0, 1
REQUEST = 1
NETLINK_NETFILTER = 12  # linux/netlink.h


def attribute(kind, data):
    """One netlink attribute, padded."""
    return struct.pack("=HH", len(data) + 4, kind) + data + b"\0" * (-len(data) % 4)


def message(kind, queue, *attributes):
    """One nfnetlink message to a queue."""
    body = struct.pack("=BBH", socket.AF_UNSPEC, 0, socket.htons(queue)) + b"".join(attributes)
    return struct.pack("=IHHII", len(body) + 16, NFNL_SUBSYS_QUEUE << 8 | kind, REQUEST, 0, 0) + body


def packet_ids(data):
    """IDs of the packets that the kernel announces in one read."""
    found, at = [], 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 16:
            break
        if kind == NFNL_SUBSYS_QUEUE << 8 | PACKET:
            place = at + 20
            while place + 4 <= at + length:
                size, attr = struct.unpack_from("=HH", data, place)
                if size < 4:
                    break
                if attr & 0x7FFF == 1:  # NFQA_PACKET_HDR
                    found.append(struct.unpack_from("!I", data, place + 4)[0])
                place += (size + 3) & ~3
        at += (length + 3) & ~3
    return found


def main(queue, mean, jitter, loss, seconds):
    """Hold packets back until the time is over; then the queue goes with the socket."""
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    link.bind((0, 0))
    link.send(message(CONFIG, queue, attribute(CFG_CMD, struct.pack("!BxH", BIND, socket.AF_INET))))
    link.send(message(CONFIG, queue, attribute(CFG_PARAMS, struct.pack("!IB", 0, COPY_META))))
    link.send(message(CONFIG, queue, attribute(CFG_QUEUE_MAXLEN, struct.pack("!I", 20000))))
    held, counts, end = [], {"delayed": 0, "lost": 0}, time.monotonic() + seconds
    print("ready", flush=True)
    while (now := time.monotonic()) < end:
        while held and held[0][0] <= now:
            verdict(link, queue, heapq.heappop(held)[1], ACCEPT)
        pause = max(0.0, min(1.0, held[0][0] - now)) if held else 1.0
        if not select.select([link], [], [], pause)[0]:
            continue
        try:
            data = link.recv(1 << 16)
        except OSError:
            continue  # the kernel had more than the buffer holds: those packets are lost as well
        arrived = time.monotonic()  # not before select: it waits up to a second for the first packet
        for packet in packet_ids(data):
            if random.random() < loss:
                counts["lost"] += 1
                verdict(link, queue, packet, DROP)
            else:
                counts["delayed"] += 1
                heapq.heappush(held, (arrived + max(0.0, random.uniform(mean - jitter, mean + jitter)), packet))
    print(counts, flush=True)


def verdict(link, queue, packet, decision):
    """Let a packet go, or drop it."""
    link.send(message(VERDICT, queue, attribute(2, struct.pack("!II", decision, packet))))


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(float, sys.argv[2:6]))
