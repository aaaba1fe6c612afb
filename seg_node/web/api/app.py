"""The application: routes, what they share, and what stands around them."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

import seg_node
from seg_node.web.api.errors import add_error_handlers
from seg_node.web.api.guard import Guard
from seg_node.web.api.limits import Limits
from seg_node.web.api.models import Models
from seg_node.web.api.openapi import DESCRIPTION
from seg_node.web.api.routes.images import image_routes
from seg_node.web.api.routes.server import server_routes
from seg_node.web.api.routes.videos import video_routes
from seg_node.web.api.service import Service, make_service
from seg_node.web.origins import Origins

_SWEEP_SECONDS = 30.0
"""Time between looks for results that were kept long enough, and for a default model that could not be loaded."""


def make_app(
    models: Models, limits: Limits, names: Collection[str] = (), trusted_origins: Collection[str] = ()
) -> ASGIApp:
    """The application.

    Args:
        models: to serve; closed at the end.
        limits: see there.
        names: of the server, besides localhost; see ``Origins``.
        trusted_origins: of other sites whose pages may use the API and read its answers (CORS).
    """
    service = make_service(models, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        models.default.load()
        sweep = asyncio.create_task(_sweep(service))
        yield
        sweep.cancel()
        # Videos use models.
        service.videos.close()
        models.close()

    app = FastAPIOffline(
        title="seg_node", version=seg_node.__version__, description=DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    add_error_handlers(app)
    for routes in (image_routes, video_routes, server_routes):
        app.include_router(routes(service))
    if trusted_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=[origin.rstrip("/") for origin in trusted_origins],
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["X-Request-Id", "X-Model", "X-Engine", "Server-Timing", "Location", "Retry-After"],
        )
    return Guard(app, service.metrics, Origins(names, trusted_origins))


async def _sweep(service: Service) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        service.videos.expire()
        if service.models.default.load_failed:
            # Whatever it was, memory or a device that others used, may be there now.
            service.models.default.load()
