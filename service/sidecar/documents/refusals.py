"""What is said of a PDF that was not read: what is wrong with it, or that no process was there."""

from __future__ import annotations

from http import HTTPStatus

from sidecar.problems import Problem

LIGHTER = "print it to a new PDF, or split it"
# By the word that the worker says: what, why, next.
REFUSALS = {
    "not-pdf": (
        "the file is not a PDF",
        "it does not begin with a PDF header",
        "give it the right suffix or Content-Type",
    ),
    "encrypted": (
        "the PDF is encrypted",
        "its text cannot be read without its password",
        "send it: as the field password, or as the header X-Document-Password of an upload",
    ),
    "password": (
        "the password does not open the PDF",
        "",
        "send the one that opens it in a viewer",
    ),
    "scanned": (
        "the PDF has no text",
        "its pages have only pictures, as from a scanner, or nothing",
        "run text recognition (OCR) over it first",
    ),
    "no-pages": ("the PDF has no pages", "", "check the program that made it"),
    "unreadable": (
        "the PDF cannot be read",
        "it is damaged or was cut short",
        "download it again, or open it in a viewer and save a copy",
    ),
    "too-complex": (
        "the PDF needs too much memory or work",
        "it exceeds the limits of a document",
        LIGHTER,
    ),
    "crash": ("the PDF could not be read", "the process that read it crashed", LIGHTER),
}


def refusal(word: str) -> Problem:
    """Return the problem that stands for a word of the worker's."""
    known = word if word in REFUSALS else "unreadable"
    what, why, step = REFUSALS[known]
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, f"document-{known}", what, why=why, next_step=step
    )


def no_process(what: str, why: str) -> Problem:
    """Return the problem of a document that no process was there to read."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "no-process",
        what,
        why=why,
        next_step="try again",
        headers={"Retry-After": "5"},
    )


def busy(seconds: float) -> Problem:
    """Return the problem of a document of which no page was read in `seconds`."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "document-busy",
        f"no page of the PDF was read within {seconds:g} seconds",
        why="the machine is too busy",
        next_step="send it again when the machine is less busy",
        headers={"Retry-After": "30"},
    )
