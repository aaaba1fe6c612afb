"""Whether an ONNX graph holds all of its tensors. An engine reads others from wherever the graph says."""

from collections.abc import Iterable, Iterator

import onnx
from google.protobuf.message import DecodeError

from seg_node.core.errors import UserError


class GraphError(UserError):
    """Bytes that are no graph to use."""


def check_graph(graph: bytes) -> None:
    """Check a serialised graph.

    Raises:
        GraphError: the bytes are no graph, it has no outputs, or it has tensors in other files.
    """
    try:
        model = onnx.load_model_from_string(graph)
    except DecodeError as error:
        raise GraphError(f"is no ONNX graph ({error})") from error
    if not model.graph.output:
        raise GraphError("is an ONNX graph without outputs")
    nodes = [node for function in model.functions for node in function.node]
    for tensor in (*_graph_tensors(model.graph), *_node_tensors(nodes)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise GraphError(f"keeps tensor {tensor.name[:100]!r} in another file; save it with all of its data")


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    """Tensors among the attributes of nodes, those in the graphs of loops and branches too."""
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _graph_tensors(graph)
