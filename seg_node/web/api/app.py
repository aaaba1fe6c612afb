"""The application: routes, what they share, and what stands around them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
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

_SWEEP_SECONDS = 30.0
"""Time between looks for results that were kept long enough, and for a default model that could not be loaded."""


def make_app(models: Models, limits: Limits) -> ASGIApp:
    """The application.

    Args:
        models: to serve; closed at the end.
        limits: see there.
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
    return Guard(app, service.metrics)


async def _sweep(service: Service) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        service.videos.expire()
        if service.models.default.load_failed:
            # Whatever it was, memory or a device that others used, may be there now.
            service.models.default.load()
