"""The five routes of the v1 API and what was added beside them and their fields."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.routing import Route

from sidecar.web.routes import embedding, files, status

PARTS = (status.router, embedding.router, files.router)
router = APIRouter()
for part in PARTS:
    router.include_router(part)
PATHS = frozenset(route.path for part in PARTS for route in part.routes if isinstance(route, Route))
