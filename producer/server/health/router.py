"""`/healthz`: the process answers."""

from fastapi import APIRouter

router = APIRouter()


@router.get("/healthz", include_in_schema=False)
def healthz() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "ok"}
