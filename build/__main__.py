"""`python3 build <command>`: the one entrance. Any Python from 3.9 starts it.

The builder itself runs in CPython 3.11, which it finds on this machine or fetches.
"""

# Written so that any Python 3, and even 2.7, can parse it: the version is checked first.
import sys

if sys.version_info[:2] < (3, 9):
    sys.stderr.write(
        "error: this build starts with Python 3.9 or newer, and this is Python %d.%d\n"
        "  why: what it has to do before it has a Python of its own needs that much\n"
        "  next: run it with a newer one, or with uv: "
        "uv run --no-project --python 3.11 python build\n" % sys.version_info[:2]
    )
    sys.exit(2)

import os

HERE = os.path.dirname(os.path.abspath(__file__))
# What PYTHONPATH leads to is another program's.
others = [os.path.abspath(name) for name in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
sys.path[1:] = [folder for folder in sys.path[1:] if folder not in others]
sys.path[:1] = [HERE, os.path.join(os.path.dirname(HERE), "service")]

if sys.version_info < (3, 11):
    from bundler.bootstrap import prepare_older_python

    prepare_older_python()

from bundler.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
