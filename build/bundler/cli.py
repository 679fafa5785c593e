"""The command line: which commands there are, and how a failure becomes an exit code.

Standard library only, so that help and usage errors need no environment; that is also why this is
argparse. Each command is a module under bundler.commands with `add_arguments` and `run`, and with
`check` where more than argparse can tell is known of its options before anything is installed.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from bundler import environment
from bundler.bootstrap import interpreters, platforms, standalone
from bundler.console import Console
from bundler.errors import BundlerError, DiskError, UsageError
from bundler.project import Project
from sidecar.arguments import Parser, did_you_mean, name_of, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
SIGINT_STATUS = 130


@dataclass(frozen=True)
class Command:
    """A command: its name, what it does in one line, and the lock groups it needs installed.

    `reference_for` is the option that alone needs the group `reference`.
    """

    name: str
    summary: str
    groups: tuple[str, ...] = ("build", "default")
    reference_for: str = ""

    def groups_for(self, options: argparse.Namespace) -> tuple[str, ...]:
        """Return the groups that the command needs with these options.

        That `reference` is not always among them matters: it comes by way of a plan, which a lock
        older than pyproject.toml does not give, and `lock` is what makes a new one.
        """
        is_asked = self.reference_for and getattr(options, self.reference_for) is not None
        return (*self.groups, "reference") if is_asked else self.groups

    @property
    def module(self) -> str:
        """Where it is written."""
        return f"bundler.commands.{self.name.replace('-', '_')}"


COMMANDS = (
    Command("up", "assemble the bundle for this machine and serve it on port 8421"),
    Command("test", "run every test", groups=("build", "default", "reference", "dev")),
    Command(
        "check",
        "run the static checks, and the unit tests that a change needs",
        groups=("build", "default", "dev"),
    ),
    Command("plan", "show what would be assembled, and from which bytes"),
    Command("fetch", "download what a plan names into the store"),
    Command("assemble", "assemble a bundle"),
    Command("verify", "compare a bundle with its manifest, file by file"),
    Command("smoke", "start a bundle, compare its vectors, trace what it opens"),
    Command("archive", "pack a bundle into one file, the same bytes every time"),
    Command("image", "write a bundle as a container image, with no engine"),
    Command("electron", "write the electron-builder files that pack, sign and check bundles"),
    Command("release", "make every artifact of a release, provenance and checksums"),
    Command("size", "show the size of a bundle, and what the diet left out"),
    Command(
        "bench",
        "measure speed and memory, beside sentence-transformers and every installed peer",
        groups=("build", "default", "reference"),
    ),
    Command("why", "name the package of a file, or the rule that left it out"),
    Command("diff", "show how two bundles differ"),
    Command("update-size", "show how many bytes an update moves, bundle and image"),
    Command("scan", "look a bill of materials up in a database of vulnerabilities"),
    Command(
        "lock",
        "refresh a lock: runtime, wheels or models",
        groups=("build", "lock", "default"),
        reference_for="models",
    ),
)


class _Parser(Parser):
    """A parser whose errors read like every other error of ours."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, next_step=f"{self.prog} --help")


class _Commands(_Parser):
    """The parser of the command's name, which comes first: no word before it is one."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401
        words = sys.argv[1:] if args is None else list(args)
        if words and words[0].startswith("-") and words[0] not in ("-h", "--help"):
            # The word behind it may be its value, and is not to be taken for a command.
            self.error(f"the command comes before its options: {name_of(words[0])}")
        names = [command.name for command in COMMANDS]
        if words and not words[0].startswith("-") and words[0] not in names:
            near = did_you_mean(nearest(words[0], names))
            self.error(f"there is no command {words[0]!r}{near}")
        return super().parse_known_args(words, namespace)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = _Commands(
        prog="python3 build",
        description="Make, check and run the sidecar bundle.",
        epilog="Everything made goes into bundle/out. docs/commands.md explains the exit codes.",
    )
    commands = top.add_subparsers(dest="command", metavar="command", parser_class=_Parser)
    for command in COMMANDS:
        module = importlib.import_module(command.module)
        sub = commands.add_parser(
            command.name,
            help=command.summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
    return top


def main(arguments: Sequence[str]) -> int:  # noqa: PLR0911 - one exit for each kind of end
    """Run one command and return the process's exit code."""
    console = Console(sys.stderr)
    try:
        return main_inner(list(arguments), console)
    except BundlerError as error:
        console.say(error.render())
        return error.exit_code
    except KeyboardInterrupt:
        console.say("interrupted; finished parts are kept, run the command again to continue")
        return SIGINT_STATUS
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in NO_SPACE:
            refused = DiskError(
                "the disk is full", why=str(error), next_step="free space, then again"
            )
        elif error.errno in NO_RIGHT:
            refused = DiskError("a file or folder cannot be used", why=str(error))
        else:
            traceback.print_exc()
            return 1
        console.say(refused.render())
        return refused.exit_code
    except Exception:  # noqa: BLE001 - whatever is left is a bug, and is shown as one
        traceback.print_exc()
        console.say("error: this is a bug in the builder; the traceback is above")
        return 1


def _own_profile(options: argparse.Namespace) -> str:
    """Return the profile that is asked for of a bundle for this machine, or nothing."""
    # Other commands than those that plan name the profile of bundles for any target.
    if not hasattr(options, "only") or options.target:
        return ""
    return str(options.profile or "")


def main_inner(arguments: list[str], console: Console) -> int:
    """Run one command; raise what goes wrong."""
    project = Project.here()
    top = parser()
    options = top.parse_args(arguments)
    if options.command is None:
        top.print_help()
        return 0
    command = next(entry for entry in COMMANDS if entry.name == options.command)
    module = importlib.import_module(command.module)
    # An older Python reads no lock; the one that it hands over to checks.
    if hasattr(module, "check") and sys.version_info >= (3, 11):
        module.check(options, project)
    if not environment.is_inside(project):
        here = platforms.supported(platforms.this_machine(), _own_profile(options))
        if interpreters.own_shortcoming(here):
            program = standalone.suitable_python(project, options, here, console)
            return interpreters.become(program, project, arguments)
        environment.ensure(project, command.groups_for(options), console.say)
        return interpreters.become(environment.interpreter(project), project, arguments)
    return int(module.run(options, project, console))
