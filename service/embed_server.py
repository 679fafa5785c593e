"""Start the service under the name that older apps start; the same program as `__main__.py`.

In a checkout without --model it serves the default model of the bundle that was assembled there.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

sys.dont_write_bytecode = True
SERVICE = Path(__file__).absolute().parent
# In isolated mode (-I) the folder of the script is not on the path.
sys.path.insert(0, str(SERVICE))

from sidecar.entrypoint import begin

SYSTEMS = {"linux": "linux", "darwin": "mac", "win32": "win"}


def assembled(checkout: Path = SERVICE.parent) -> Path:
    """Return this machine's bundle that the builder of `checkout` left. Raises UnreachableError."""
    from sidecar.errors import UnreachableError  # noqa: PLC0415 (where even that fails, it is told)

    arch = "arm64" if platform.machine().lower() in {"aarch64", "arm64"} else "x64"
    target = f"{SYSTEMS.get(sys.platform)}-{arch}"
    for place in (checkout / "bundle/out" / name for name in (target, f"{target}-lean")):
        if (place / "manifest.json").is_file():
            return place
    what = "no model was named, and this checkout has none yet"
    raise UnreachableError(
        what,
        why=f"there is no bundle in bundle/out/{target}",
        next_step="python3 build assemble, or --model FOLDER",
    )


if __name__ == "__main__":
    begin(assembled if (SERVICE.parent / "build" / "bundler").is_dir() else None)
