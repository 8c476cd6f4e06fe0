"""The application: its routes and what they share."""

from fastapi import FastAPI

from models import version
from producer.server import openapi_document
from producer.server.context import ServerContext
from producer.server.errors import add_error_handlers
from producer.server.health import router as health
from producer.server.native import router as native
from producer.server.openai_api import router as openai_api


def create_app(context: ServerContext) -> FastAPI:
    """Build the application over an open database."""
    app = FastAPI(title="Batchmill", version=version.full_version(), docs_url=None, redoc_url=None, openapi_url=None)
    app.state.context = context
    add_error_handlers(app)
    app.include_router(openai_api.router, prefix="/v1")
    app.include_router(native.router, prefix="/api")
    app.include_router(health.router)
    app.include_router(openapi_document.router)
    openapi_document.describe(app)
    return app
