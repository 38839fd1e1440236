"""The one HTTP application, made of its faces."""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Mount as StarletteMount

from stellwerk import __version__
from stellwerk.northbound.onem2m.errors import HTTP_STATUS, Rsc
from stellwerk.northbound.onem2m.errors import error_body as onem2m_error
from stellwerk.northbound.onem2m.face import OneM2MFace
from stellwerk.northbound.onem2m.openapi import describe
from stellwerk.northbound.onem2m.request import Mount
from stellwerk.northbound.rest.errors import error_body as rest_error
from stellwerk.northbound.rest.health import health_routes
from stellwerk.northbound.services import Services

DEVICE_TO_CLOUD: Final = "/device-management-orchestrator/v3"
ONEM2M: Final = "/onem2m"


def default_mounts(services: Services) -> tuple[Mount, ...]:
    """The published mount with the names of the published pages, and one for generic oneM2M clients (contract §1)."""
    return (Mount(DEVICE_TO_CLOUD, services.naming), Mount(ONEM2M, "short"))


def build_http(services: Services, mounts: Sequence[Mount] | None = None) -> FastAPI:
    """Every face on one application. ``mounts``: where the oneM2M tree hangs."""
    if mounts is None:
        mounts = default_mounts(services)
    app = FastAPI(title="Stellwerk", version=__version__, openapi_url=None, redirect_slashes=False)
    # The faces come first: they are asked far more often than anything else.
    for mount in mounts:
        app.router.routes.append(StarletteMount(mount.prefix, app=OneM2MFace(services, mount)))
    app.include_router(health_routes(services))
    document = _openapi(app, mounts)

    # The pages that usually show this document load their scripts from elsewhere; the document alone works offline.
    @app.get("/docs", include_in_schema=False)
    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(document)

    _answer_errors(app, services, tuple(mount.prefix for mount in mounts))
    return app


def _openapi(app: FastAPI, mounts: Sequence[Mount]) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    for mount in mounts:
        document["paths"] |= describe(mount.prefix)
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["bearer"] = {"type": "http", "scheme": "bearer"}
    return document


def _answer_errors(app: FastAPI, services: Services, onem2m_prefixes: tuple[str, ...]) -> None:
    """What the framework refuses takes the shape of the face whose address was asked."""

    def refuse(request: Request, status: int, message: str, headers: Any = None) -> Response:
        path = request.url.path
        if any(path == prefix or path.startswith(f"{prefix}/") for prefix in onem2m_prefixes):
            rsc = _RSC_OF.get(status, Rsc.INTERNAL_SERVER_ERROR)
            answer = {"X-M2M-RSC": str(int(rsc)), **(headers or {})}
            if request_id := request.headers.get("x-m2m-ri"):
                answer["X-M2M-RI"] = request_id
            return JSONResponse(onem2m_error(message), HTTP_STATUS[rsc], answer)
        return JSONResponse(rest_error(status, message, services.clock.wall_ms()), status, headers)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = str(error.detail)
        if error.status_code == 404 and message == "Not Found":
            message = f"there is nothing at {request.url.path[:120]}; /docs describes what there is"
        elif error.status_code == 405:
            message = f"{request.method} is not possible at {request.url.path[:120]}"
        return refuse(request, error.status_code, message, error.headers)

    async def failure(request: Request, error: Exception) -> Response:
        return refuse(request, 500, "internal error; the server's log has the details")

    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, failure)


_RSC_OF: Final = {
    400: Rsc.BAD_REQUEST,
    404: Rsc.NOT_FOUND,
    405: Rsc.OPERATION_NOT_ALLOWED,
    415: Rsc.UNSUPPORTED_MEDIA_TYPE,
}
