"""The one HTTP application, made of its faces."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Mount as StarletteMount
from starlette.routing import Route

from stellwerk import __version__
from stellwerk.app.ports import StoreTrouble
from stellwerk.northbound.oauth import oauth_routes
from stellwerk.northbound.onem2m.face import OneM2MFace
from stellwerk.northbound.onem2m.openapi import describe
from stellwerk.northbound.onem2m.request import Mount
from stellwerk.northbound.rest.errors import error_body
from stellwerk.northbound.rest.health import health_routes
from stellwerk.northbound.rest.metrics import Sources, metrics_routes
from stellwerk.northbound.services import Services

DEVICE_TO_CLOUD: Final = "/device-management-orchestrator/v3"
ONEM2M: Final = "/onem2m"


def default_mounts(services: Services) -> tuple[Mount, ...]:
    """The published mount with the names of the published pages, and one for generic oneM2M clients (contract §1)."""
    return (Mount(DEVICE_TO_CLOUD, services.naming), Mount(ONEM2M, "short"))


def build_http(services: Services, mounts: Sequence[Mount] | None = None, sources: Sources | None = None) -> FastAPI:
    """Every face on one application. ``mounts``: where the oneM2M tree hangs; ``sources``: of ``/metrics``."""
    if mounts is None:
        mounts = default_mounts(services)
    app = FastAPI(title="Stellwerk", version=__version__, openapi_url=None, redirect_slashes=False)
    # The faces come first: they are asked far more often than anything else.
    for mount in mounts:
        face = OneM2MFace(services, mount)
        below = StarletteMount(mount.prefix, app=face)
        # The framework's own pattern stops at a line break, which a path may hold as %0A.
        below.path_regex = re.compile(below.path_regex.pattern, re.DOTALL)
        app.router.routes.append(below)
        # The prefix alone names no tenant, which is for the face to say.
        app.router.routes.append(Route(mount.prefix, endpoint=face, include_in_schema=False))
    app.include_router(health_routes(services))
    if services.tokens.signed is not None:
        app.include_router(oauth_routes(services, services.tokens.signed))
    app.include_router(metrics_routes(services, sources))
    # Made when somebody asks: it takes longer than the rest of the application.
    document = cache(lambda: _openapi(app, mounts))

    # The pages that usually show this document load their scripts from elsewhere; the document alone works offline.
    @app.get("/docs", include_in_schema=False)
    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(document())

    _answer_errors(app, services)
    return app


def _openapi(app: FastAPI, mounts: Sequence[Mount]) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    for mount in mounts:
        document["paths"] |= describe(mount.prefix)
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["bearer"] = {"type": "http", "scheme": "bearer"}
    return document


def _answer_errors(app: FastAPI, services: Services) -> None:
    """What the framework refuses outside the oneM2M tree takes the shape of ``rest``; the tree answers for itself."""

    def refuse(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
        return JSONResponse(error_body(status, message, services.clock.wall_ms()), status, headers)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path[:120]
        match error.status_code:
            case 404:
                message = f"there is nothing at {path}; /docs describes what there is"
            case 405:
                message = f"{request.method} is not possible at {path}"
            case _:
                message = str(error.detail)
        return refuse(error.status_code, message, error.headers)

    async def failure(request: Request, error: Exception) -> Response:
        return refuse(500, "internal error; the server's log has the details")

    async def store_trouble(request: Request, error: Exception) -> Response:
        return refuse(503, str(error), {"retry-after": "5"})

    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(StoreTrouble, store_trouble)
    app.add_exception_handler(Exception, failure)
