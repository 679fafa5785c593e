"""`python3 build <command>`: the one entrance. Needs Python 3.11 with pip and venv alone."""

# Written so that any Python 3, and even 2.7, can parse it: the version is checked first.
import sys

if sys.version_info[:2] != (3, 11):
    sys.stderr.write(
        "error: this build needs Python 3.11, and this is Python %d.%d\n"
        "  why: the bundle carries CPython 3.11, and its bytecode is compiled by the same version\n"
        "  next: python3.11 build %s\n"
        % (sys.version_info[0], sys.version_info[1], " ".join(sys.argv[1:]))
    )
    sys.exit(2)

import os

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:1] = [HERE, os.path.join(os.path.dirname(HERE), "service")]

from bundler.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
