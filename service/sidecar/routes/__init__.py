"""The five routes of the v1 API and what was added beside its fields."""

from __future__ import annotations

from fastapi import APIRouter

from sidecar.routes import embedding, files, status

router = APIRouter()
for part in (status, embedding, files):
    router.include_router(part.router)
