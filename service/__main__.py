"""Start the service: `python -I -B embedding_sidecar --port 8421`."""

from __future__ import annotations

import sys

# Said before our own first import: a signed bundle must stay as it was sealed, even without -B.
sys.dont_write_bytecode = True

from sidecar.entrypoint import begin

if __name__ == "__main__":
    begin()
