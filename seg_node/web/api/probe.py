"""What a server refuses of an image before it decodes it."""

from seg_node.core.errors import UndecodableError
from seg_node.core.image_header import ImageHeader, read_header
from seg_node.web.api.errors import ApiError
from seg_node.web.api.limits import Limits


def check_image(data: bytes, limits: Limits) -> ImageHeader:
    """Read an image's header and refuse what must not be decoded.

    Raises:
        ApiError: 415 for other types than JPEG and PNG, 422 for a header that cannot be read, 413 for too many pixels.
    """
    try:
        header = read_header(data)
    except UndecodableError as error:
        raise ApiError(422, "undecodable", str(error)) from None
    if header is None:
        raise ApiError(415, "media_type", "the data is neither JPEG nor PNG; send one of these")
    check_size(header.height, header.width, limits)
    return header


def check_size(height: int, width: int, limits: Limits) -> None:
    """Refuse an image with no pixels (422) or too many (413).

    Raises:
        ApiError: see above.
    """
    if not height or not width:
        raise ApiError(422, "undecodable", f"the image is {width}x{height}; expected at least one pixel")
    if height * width > limits.max_pixels:
        allowed = f"{limits.max_pixels} are allowed; scale it down"
        raise ApiError(413, "too_many_pixels", f"the image is {width}x{height} = {height * width} pixels; {allowed}")
    if max(height, width) > limits.max_side:
        raise ApiError(
            413, "too_many_pixels", f"the image is {width}x{height}; a side may have {limits.max_side}; scale it down"
        )
