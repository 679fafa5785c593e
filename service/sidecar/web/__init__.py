"""From bytes on a connection to answers: what is let in, read, and written."""

import sys

# FastAPI imports pydantic's old API to ask of each model whether it is one of that. None is, and
# Python takes this as that there is no such module.
sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type]
