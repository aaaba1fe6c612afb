"""Routes that tell of the server itself."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from seg_node.web.api import metrics as prometheus
from seg_node.web.api.errors import ApiError
from seg_node.web.api.service import Service


def server_routes(service: Service) -> APIRouter:
    """Routes with the models, the state and the metrics of the server."""
    router = APIRouter(tags=["server"])
    models = service.models

    @router.get("/v1/models", summary="Models and what their manifests say")
    async def list_models() -> JSONResponse:
        return JSONResponse({"models": models.describe()})

    @router.get("/healthz", summary="Whether the server runs")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", summary="Whether the default model is loaded and warm")
    async def readiness() -> dict[str, str]:
        if not models.default.ready:
            raise ApiError(503, "not_ready", f"{models.default.bundle.name} is not loaded", retry_after=1)
        return {"status": "ready"}

    @router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def read_metrics() -> Response:
        return Response(service.metrics.text(), media_type=prometheus.CONTENT_TYPE)

    return router
