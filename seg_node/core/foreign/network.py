"""What a foreign network takes and gives, found in its graph and by running it."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto

from seg_node.core.bundle.graph_check import GraphError, check_graph
from seg_node.core.errors import UserError

OUTPUTS = ("logits", "softmax", "labels")

_FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}
_MAX_SIDE = 4096


@dataclass(frozen=True)
class ForeignNetwork:
    """A network of one image and one map."""

    model: onnx.ModelProto
    input: str
    """Name of its input."""
    channels_last: bool
    """Whether the input is [1, h, w, 3], not [1, 3, h, w]."""
    dtype: int
    """``TensorProto`` type of the input: FLOAT, FLOAT16 or UINT8."""
    size: tuple[int, int]
    """Height and width of the input in pixels."""
    output: str
    """Name of its output."""
    kind: str
    """One of ``OUTPUTS``."""
    shape: tuple[int, ...]
    """Shape of the output, for an input of ``size``."""
    classes_last: bool
    """Whether logits are [1, h, w, C], not [1, C, h, w]."""

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        if self.kind == "labels":
            sides = [side for side in self.shape if side != 1] or [1, 1]
            return (sides[0], sides[1]) if len(sides) == 2 else (self.shape[-2], self.shape[-1])
        return self.shape[1:3] if self.classes_last else self.shape[2:4]

    def run(self, image: np.ndarray) -> np.ndarray:
        """The bare network's output for its input, as they are."""
        return open_session(self.model).run([self.output], {self.input: image})[0]


def inspect(graph: bytes, classes: int, size: tuple[int, int] | None, kind: str | None) -> ForeignNetwork:
    """Find out what a network takes and gives.

    Args:
        graph: serialised ONNX model.
        classes: number of classes that it tells apart.
        size: height and width in pixels for a network that takes any; None for that of the graph.
        kind: one of ``OUTPUTS``; None to find out.

    Raises:
        UserError: it is no network of one image and one map; the message says what the graph has.
    """
    try:
        check_graph(graph)
    except GraphError as error:
        raise UserError(f"the file {error}") from error
    model = onnx.load_model_from_string(graph)
    name, dtype, channels_last, size = _input(model, size)
    outputs = [output.name for output in model.graph.output]
    if len(outputs) != 1:
        raise UserError(
            f"the graph has {len(outputs)} outputs ({', '.join(outputs)[:200]}); expected one map: "
            "export the network without its auxiliary heads"
        )
    sides = (1, *size, 3) if channels_last else (1, 3, *size)
    try:
        found = open_session(model).run(None, {name: np.zeros(sides, _numpy(dtype))})[0]
    except UserError:
        raise
    except Exception as error:
        # onnxruntime's errors have no base class of their own below Exception.
        raise UserError(
            f"the graph cannot be run on an input of {'x'.join(map(str, sides))}: {str(error)[:300]}"
        ) from error
    kind, classes_last = _kind(found, classes, kind)
    return ForeignNetwork(model, name, channels_last, dtype, size, outputs[0], kind, tuple(found.shape), classes_last)


def _input(model: onnx.ModelProto, size: tuple[int, int] | None) -> tuple[str, int, bool, tuple[int, int]]:
    """Name, type, whether channels are last, and size in pixels."""
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)[:200] or "none"
        raise UserError(f"the graph has {len(inputs)} inputs ({names}); expected one image")
    kind = inputs[0].type.tensor_type
    dims = [dim.dim_value or None for dim in kind.shape.dim]
    shown = f"{inputs[0].name[:100]}: {_type(kind.elem_type)} [{', '.join(map(_dim, kind.shape.dim))[:100]}]"
    if kind.elem_type not in (*_FLOATS, TensorProto.UINT8):
        raise UserError(f"the graph's input is {shown}; expected float or uint8")
    if len(dims) != 4 or dims[0] not in (None, 1) or (dims[1] == 3) == (dims[3] == 3):
        raise UserError(f"the graph's input is {shown}; expected one image, [1, 3, h, w] or [1, h, w, 3]")
    channels_last = dims[3] == 3
    sides = dims[1:3] if channels_last else dims[2:4]
    wanted = size or (None, None)
    for side, asked, word in zip(sides, wanted, ("high", "wide"), strict=True):
        if side and asked and side != asked:
            raise UserError(f"the graph's input is {shown}, {side} pixels {word}; --size asks for {asked}")
    chosen = tuple(side or asked for side, asked in zip(sides, wanted, strict=True))
    if not all(chosen):
        raise UserError(f"the graph's input is {shown}, of any size; give --size HEIGHT WIDTH in pixels")
    if not all(0 < side <= _MAX_SIDE for side in chosen):
        raise UserError(f"the input would be {chosen[0]}x{chosen[1]}; expected 1 to {_MAX_SIDE} pixels a side")
    return inputs[0].name, kind.elem_type, channels_last, chosen


def _type(number: int) -> str:
    return TensorProto.DataType.Name(number) if number in TensorProto.DataType.values() else f"type {number}"


def _dim(dim: onnx.TensorShapeProto.Dimension) -> str:
    return dim.dim_param or (str(dim.dim_value) if dim.dim_value else "?")


def _kind(found: np.ndarray, classes: int, asked: str | None) -> tuple[str, bool]:
    """Kind of an output, and whether its classes are last."""
    if not isinstance(found, np.ndarray):
        raise UserError(f"the graph's output is a {type(found).__name__}; expected one map as a tensor")
    shown = f"{found.dtype} [{', '.join(map(str, found.shape))}]"
    whole = np.issubdtype(found.dtype, np.integer)
    sides = [side for side in found.shape if side != 1]
    if whole or asked == "labels":
        if asked not in (None, "labels") or not 2 <= found.ndim <= 4 or len(sides) > 2:
            raise UserError(f"the graph's output is {shown}; expected {asked or 'labels'} of one image")
        return "labels", False
    if found.ndim != 4 or found.shape[0] != 1 or found.dtype not in (np.float32, np.float16):
        raise UserError(f"the graph's output is {shown}; expected [1, classes, h, w] or [1, h, w, classes] of float")
    if classes == 1:
        raise UserError(f"the graph's output is {shown}; one class alone tells nothing apart: give two")
    first, last = found.shape[1] == classes, found.shape[3] == classes
    if first == last:
        raise UserError(f"the graph's output is {shown}, and there are {classes} classes; expected as many channels")
    if asked:
        return asked, last
    return ("softmax" if _are_shares(found, 3 if last else 1) else "logits"), last


def check_values(network: ForeignNetwork, output: np.ndarray) -> None:
    """Refuse values that cannot become a mask and its confidence.

    Args:
        network: that was inspected.
        output: of it, for a picture.

    Raises:
        UserError: logits are not finite, or what is said to be softmax are no shares.
    """
    axis = 3 if network.classes_last else 1
    if network.kind == "labels":
        return
    with np.errstate(invalid="ignore"):
        if not np.isfinite(output.max(axis)).all():
            raise UserError(
                f"the graph's output {network.output} is not finite for a picture; --mean and --std must be those that"
                " the network was trained with"
            )
    if network.kind == "softmax" and not _are_shares(output, axis):
        raise UserError(f"the graph's output {network.output} does not add up to 1 for a picture; give --output logits")


def _are_shares(maps: np.ndarray, axis: int) -> bool:
    total = maps.astype(np.float64).sum(axis)
    return bool(maps.size) and maps.min() >= 0 and np.abs(total - 1).max() < 1e-2


def _numpy(dtype: int) -> type:
    return _FLOATS.get(dtype, np.uint8)


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session of ONNX Runtime on the processor that says nothing of what it leaves out."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
