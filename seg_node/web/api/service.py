"""What the routes of one server share."""

from dataclasses import dataclass

from seg_node.web.api.guard import Places
from seg_node.web.api.limits import Limits
from seg_node.web.api.metrics import Metrics
from seg_node.web.api.models import Models
from seg_node.web.api.videos import Videos


@dataclass(frozen=True)
class Service:
    """Models, bounds and counters of one server."""

    models: Models
    limits: Limits
    metrics: Metrics
    places: Places
    videos: Videos
