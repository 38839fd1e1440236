"""Is the process alive, and may traffic come? (design §2)"""

import asyncio
from typing import Final

import structlog
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from stellwerk.app.ports import StoreTrouble
from stellwerk.northbound.services import Services

log = structlog.get_logger(__name__)

STORE_ANSWERS_WITHIN_S: Final = 2.0


def health_routes(services: Services) -> APIRouter:
    """``/health/live`` answers while the loop turns; ``/health/ready`` is 200 once every listener is bound and the
    store answers, else 503 with what is missing."""
    router = APIRouter(prefix="/health", tags=["Health"])

    # Some balancers ask with HEAD.
    @router.head("/live", include_in_schema=False)
    @router.get("/live", summary="Whether the process answers")
    async def live() -> JSONResponse:
        return JSONResponse({"status": "alive"})

    @router.head("/ready", include_in_schema=False)
    @router.get("/ready", summary="Whether traffic may come", responses={503: {"description": "Something is missing"}})
    async def ready() -> JSONResponse:
        missing = list(await services.ready())
        if trouble := await _trouble_of_store(services):
            missing.append(trouble)
        if missing:
            return JSONResponse({"status": "not ready", "missing": missing}, 503)
        return JSONResponse({"status": "ready"})

    return router


async def _trouble_of_store(services: Services) -> str:
    """Why the store does not answer, empty when it does."""
    try:
        async with asyncio.timeout(STORE_ANSWERS_WITHIN_S):
            await services.deciding.check()
    except StoreTrouble as error:
        # The store has said so itself.
        return f"store: {error}"
    except TimeoutError:
        log.warning("health.store_silent", after_s=STORE_ANSWERS_WITHIN_S)
        return f"store: no answer within {STORE_ANSWERS_WITHIN_S:.0f} s"
    except Exception as error:
        log.warning("health.store_silent", error=repr(error))
        return f"store: {error}"
    return ""
