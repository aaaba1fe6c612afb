"""torch: the training path itself, on a GPU or the processor."""

from collections.abc import Sequence

import numpy as np
import onnx
import torch

from seg_node.core.bundle import Bundle
from seg_node.core.engines.base import Engine, EngineError
from seg_node.core.network import FrameSegmenter, SegmentationNetwork, has_native_bf16


class TorchEngine(Engine):
    """See ``Engine``. Builds the network of ``core.network`` and fills it with the tensors of the bundle's graph."""

    name = "torch"

    def __init__(self, bundle: Bundle, threads: int = 0, precision: str = "auto"):
        super().__init__(bundle, threads, precision)
        if threads:
            torch.set_num_threads(threads)
        manifest = bundle.manifest
        try:
            network = SegmentationNetwork(manifest.backbone, manifest.mean, manifest.std)
            network.fpn.load_state_dict(graph_weights(bundle.graph, network.fpn), strict=True)
        except Exception as error:
            # smp and timm raise KeyError and RuntimeError, onnx its protobuf's errors.
            raise EngineError(f"{bundle.name}: torch cannot build {manifest.backbone}: {error}") from error
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.batches = self.device == "cuda"
        segmenter = FrameSegmenter(network.eval(), manifest.input_size)
        self._segmenter = segmenter.to(self.device, memory_format=torch.channels_last)
        self._bf16 = precision == "bf16" or (precision == "auto" and has_native_bf16(torch.device(self.device)))

    def prepare(self, size: tuple[int, int], confidence: bool = False) -> None:
        """Nothing depends on the size."""

    def infer(self, bgr: np.ndarray, confidence: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        return self._segment(bgr[None], confidence)[0]

    def infer_batch(
        self, frames: Sequence[np.ndarray], confidence: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray | None]]:
        return self._segment(np.stack(frames), confidence)

    @torch.inference_mode()
    def _segment(self, frames: np.ndarray, confidence: bool) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Masks and confidences of frames of one size, uint8 [N, H, W, 3]."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self._bf16):
            outputs = self._segmenter.batch(torch.from_numpy(frames).to(self.device), confidence)
        masks, confidences = ([None] * len(frames) if part is None else part.cpu().numpy() for part in outputs)
        return [self._checked(*of) for of in zip(frames, masks, confidences, strict=True)]


def graph_weights(graph: bytes, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """State of a module from the ONNX graph that was exported from it.

    The export keeps every tensor under its name in the module. Counters of BatchNorm steps, which only training
    reads, are not in a graph.
    """
    initializers = {i.name: i for i in onnx.load_from_string(graph).graph.initializer}
    state = module.state_dict()
    for name in state:
        if name in initializers:
            state[name] = torch.from_numpy(onnx.numpy_helper.to_array(initializers[name]).copy()).to(state[name].dtype)
        elif not name.endswith("num_batches_tracked"):
            raise KeyError(f"the graph holds no tensor {name}")
    return state
