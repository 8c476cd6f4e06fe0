"""`/healthz`: the process answers. `/readyz`: it can do its work."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from models import schema
from models.errors import BatchmillError
from producer.server.context import Context
from producer.server.requests.outages import DatabaseWatch

OK = "ok"
METHODS = ["GET", "HEAD"]  # some load balancers send the latter

router = APIRouter()


@router.api_route("/healthz", methods=METHODS, include_in_schema=False)
async def healthz() -> dict[str, str]:
    """Say that the process answers; no thread is needed, so that an outage of the database changes nothing."""
    return {"status": OK}


@router.api_route("/readyz", methods=METHODS, include_in_schema=False)
async def readyz(request: Request, context: Context) -> JSONResponse:
    """Say whether the server can do its work, part by part; the status is 503 if it can't."""
    watch: DatabaseWatch = request.app.state.database_watch
    parts = {"server": "stopping" if context.stopping.is_set() else OK, **await _check_database(watch)}
    is_ready = set(parts.values()) == {OK}
    return JSONResponse({"status": OK if is_ready else "unavailable", "parts": parts}, 200 if is_ready else 503)


async def _check_database(watch: DatabaseWatch) -> dict[str, str]:
    try:
        version = await watch.ask()
    except BatchmillError as error:
        return {"database": error.code}
    is_ours = version == schema.HEAD
    return {"database": OK, "tables": OK if is_ours else f"of version {version}, and this server needs {schema.HEAD}"}
