"""From whatever Python starts the builder to the CPython 3.11 that runs it.

Everything here, and what the command line imports before its own environment runs it, works with
the syntax and the standard library of Python 3.9; a test holds it to that.
"""
