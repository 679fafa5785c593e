"""Start the service under the name that older apps start; the same program as `__main__.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.dont_write_bytecode = True
# In isolated mode (-I) the folder of the script is not on the path.
sys.path.insert(0, str(Path(__file__).absolute().parent))

from sidecar.entrypoint import begin

if __name__ == "__main__":
    begin()
