"""Routes that tell of the server itself."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse, RedirectResponse, Response

from seg_node.web.api import metrics as prometheus
from seg_node.web.api.errors import ApiError
from seg_node.web.api.models import Model
from seg_node.web.api.openapi import NOT_READY, STUCK
from seg_node.web.api.service import Service


def server_routes(service: Service) -> APIRouter:
    """Routes with the models, the state and the metrics of the server."""
    router = APIRouter(tags=["server"])
    models, limits = service.models, service.limits

    @router.get("/", include_in_schema=False)
    async def start() -> RedirectResponse:
        return RedirectResponse("docs")

    @router.get("/v1/models", summary="Models and what their manifests say")
    async def list_models() -> JSONResponse:
        return JSONResponse({"models": models.describe()})

    @router.get(
        "/healthz",
        summary="Whether the server runs; 500 where only a new start helps",
        responses={500: STUCK},
    )
    async def health() -> dict[str, str]:
        for model in models:
            _refuse_stuck(model, 500, limits.stuck, limits.load, "start the server anew")
        return {"status": "ok"}

    @router.get(
        "/readyz",
        summary="Whether the default model is loaded and warm, and no model hangs",
        responses={503: NOT_READY},
    )
    async def readiness() -> dict[str, str]:
        default = models.default
        if not default.ready:
            why = "could not be loaded, the log says why; it is tried again" if default.load_failed else "is not loaded"
            raise ApiError(503, "not_ready", f"{default.bundle.name} {why}", retry_after=1)
        for model in models:
            _refuse_stuck(model, 503, limits.stalled, limits.load, "send requests elsewhere")
        return {"status": "ready"}

    @router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def read_metrics() -> Response:
        return Response(service.metrics.text(), media_type=prometheus.CONTENT_TYPE)

    return router


def _refuse_stuck(model: Model, status: int, work_limit: float, load_limit: float, advice: str) -> None:
    """Refuse, where a model has been in one step of its work, or in loading, for longer than the limit in seconds."""
    for what, seconds, limit in (
        ("working on one image", model.busy_seconds, work_limit),
        ("loading", model.loading_seconds, load_limit),
    ):
        if seconds > limit:
            message = f"{model.bundle.name} has been {what} for {seconds:.0f} s; {advice}"
            raise ApiError(status, "stuck", message, retry_after=1 if status == 503 else None)
