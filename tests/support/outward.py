"""Runs a command in a network namespace of its own, and tells what it sent to other machines.

`unshare --net --mount python -m tests.support.outward COMMAND…` needs root. What is for another
machine goes to the loopback, where it is counted and nobody takes it. Prints a line of JSON on
stderr, the last one: the addresses that anything was sent to, and the command's exit code.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
import sys
import tempfile
import threading

NOWHERE = "192.0.2.53"
IPV4, IPV6 = 0x0800, 0x86DD
ALL_PROTOCOLS = 3
ETHERNET_BYTES = 14


class Watch(threading.Thread):
    """Reads all packets of the loopback; `addresses` are those that are of other machines."""

    def __init__(self) -> None:
        """Listen from now on."""
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
        self._socket.bind(("lo", 0))
        self.addresses: set[str] = set()

    def run(self) -> None:
        """Read until the process ends."""
        while True:
            found = _destination(self._socket.recv(ETHERNET_BYTES + 40))
            if found is not None and not found.is_loopback:
                self.addresses.add(str(found))


def _destination(packet: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    kind = int.from_bytes(packet[12:ETHERNET_BYTES], "big")
    body = packet[ETHERNET_BYTES:]
    if kind == IPV4:
        return ipaddress.IPv4Address(body[16:20])
    return ipaddress.IPv6Address(body[24:40]) if kind == IPV6 else None


def main(command: list[str]) -> None:
    """Lead what goes out to the loopback, run, tell."""
    for words in (["link", "set", "lo", "up"], ["route", "add", "default", "dev", "lo"]):
        subprocess.run(["ip", *words], check=True)
    watch = Watch()
    watch.start()
    with tempfile.NamedTemporaryFile("w", encoding="ascii") as resolver:
        resolver.write(f"nameserver {NOWHERE}\noptions timeout:1 attempts:1\n")
        resolver.flush()
        subprocess.run(["mount", "--bind", resolver.name, "/etc/resolv.conf"], check=True)
        code = subprocess.run(command, check=False).returncode
    told = {"addresses": sorted(watch.addresses), "code": code}
    sys.stderr.write(f"{json.dumps(told)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
