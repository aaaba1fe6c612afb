"""What the routes of one server share."""

from dataclasses import dataclass

from seg_node.web.api.limits import Limits
from seg_node.web.api.metrics import Metrics
from seg_node.web.api.models import Models
from seg_node.web.api.places import Places, Uploads
from seg_node.web.api.videos import Videos


@dataclass(frozen=True)
class Service:
    """Models, bounds and counters of one server."""

    models: Models
    limits: Limits
    metrics: Metrics
    uploads: Uploads
    """Bodies of images."""
    video_uploads: Uploads
    """Videos that are being received; they are held on the disk."""
    places: Places
    """Images and batches whose body is complete."""
    videos: Videos


def make_service(models: Models, limits: Limits) -> Service:
    """What the limits give room for."""
    return Service(
        models,
        limits,
        Metrics(models),
        Uploads(limits.uploads, limits.held_bytes),
        Uploads(limits.uploads, limits.video_upload_bytes),
        Places(limits.queue),
        Videos(limits),
    )
