"""torch: the training path itself, on a GPU or the processor."""

import importlib.util
import os
import warnings
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import onnx
import torch

from seg_node.core.bundle import Bundle
from seg_node.core.engines.base import Engine, EngineError
from seg_node.core.network import FrameSegmenter, SegmentationNetwork, computes_faster_in_bf16

_COPYING = 4
"""Number of threads that copy a frame to where a GPU reads it. One takes longer, and so do sixteen when one is late."""

# A frame is only read, so it does not matter that the bytes of a message cannot be written.
warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)


class TorchEngine(Engine):
    """See ``Engine``. Builds the network of ``core.network`` and fills it with the tensors of the bundle's graph.

    On a GPU, frame by frame, the whole way there and back is one CUDA graph for each frame size. ``torch.compile``
    would be faster still, but takes all processors for half a minute, in which the model to be replaced runs late.
    """

    name = "torch"

    def __init__(self, bundle: Bundle, threads: int = 0, precision: str = "auto"):
        super().__init__(bundle, threads, precision)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if threads or self.device == "cuda":
            torch.set_num_threads(threads or min(_COPYING, os.cpu_count() or 1))
        manifest = bundle.manifest
        try:
            network = SegmentationNetwork(
                manifest.backbone,
                manifest.mean,
                manifest.std,
                decoder=manifest.decoder_options,
                categories=len(manifest.categories),
            )
            network.fpn.load_state_dict(graph_weights(bundle.graph, network.fpn), strict=True)
        except Exception as error:
            # smp and timm raise KeyError and RuntimeError, onnx its protobuf's errors.
            raise EngineError(f"{bundle.name}: torch cannot build {manifest.backbone}: {error}") from error
        self.batches = self.device == "cuda"
        bf16 = precision == "bf16" or (precision == "auto" and computes_faster_in_bf16(torch.device(self.device)))
        # Autocast converts the weights for every frame; a GPU takes a network that is bf16 throughout.
        self._autocast = bf16 and self.device == "cpu"
        network.eval()
        if self.device == "cuda":
            dtype = torch.bfloat16 if bf16 else torch.float32
            # Not every build of torch for a GPU brings Triton.
            if importlib.util.find_spec("triton"):
                from seg_node.core.engines.torch_gpu import for_gpu

                for_gpu(network.to(self.device), dtype)
            network.fpn.to(dtype)
        segmenter = FrameSegmenter(network, manifest.input_size)
        self._segmenter = segmenter.to(self.device, memory_format=torch.channels_last)
        self._graphs: OrderedDict[tuple[tuple[int, int], bool], _CudaGraph] = OrderedDict()

    def prepare(self, size: tuple[int, int], confidence: bool = False) -> None:
        if self.device == "cuda":
            self._graph(size, confidence)

    def infer(self, bgr: np.ndarray, confidence: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        if self.device == "cuda":
            return self._checked(bgr, *self._graph(bgr.shape[:2], confidence)(bgr))
        return self._segment(bgr[None], confidence)[0]

    def infer_batch(
        self, frames: Sequence[np.ndarray], confidence: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray | None]]:
        return self._segment(np.stack(frames), confidence)

    def _graph(self, size: tuple[int, int], confidence: bool) -> "_CudaGraph":
        key = (size, confidence)
        if key not in self._graphs:
            try:
                self._graphs[key] = _CudaGraph(self._segmenter, size, confidence)
            except RuntimeError as error:
                raise EngineError(f"{self.bundle.name}: torch cannot capture a CUDA graph: {error}") from error
            if len(self._graphs) > self.sizes_kept:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        return self._graphs[key]

    @torch.inference_mode()
    def _segment(self, frames: np.ndarray, confidence: bool) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Masks and confidences of frames of one size, uint8 [N, H, W, 3]."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self._autocast):
            outputs = self._segmenter.batch(torch.from_numpy(frames).to(self.device), confidence)
        masks, confidences = ([None] * len(frames) if part is None else part.cpu().numpy() for part in outputs)
        return [self._checked(*of) for of in zip(frames, masks, confidences, strict=True)]


class _CudaGraph:
    """From a frame in pinned memory to a mask in pinned memory, launched as one.

    A GPU computes a frame's hundreds of kernels in less time than a processor takes to launch them one by one.

    Args:
        segmenter: on the GPU.
        size: (height, width) of the frames.
        confidence: compute it too.
    """

    @torch.inference_mode()
    def __init__(self, segmenter: FrameSegmenter, size: tuple[int, int], confidence: bool):
        self._segmenter, self._confidence = segmenter, confidence
        self._frame = torch.empty((*size, 3), dtype=torch.uint8, pin_memory=True)
        self._outputs = [torch.empty(size, dtype=torch.uint8, pin_memory=True) for _ in range(1 + confidence)]
        self._stream = torch.cuda.Stream()
        self._done = torch.cuda.Event()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._stream):
            # Libraries choose kernels and allocate in the first runs, which a capture does not allow.
            for _ in range(3):
                self._enqueue()
            self._stream.synchronize()
            # Another thread may run the engine that this one is to replace.
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                self._enqueue()

    def _enqueue(self) -> None:
        outputs = self._segmenter(self._frame.to("cuda", non_blocking=True), self._confidence)
        for pinned, output in zip(self._outputs, outputs, strict=False):
            pinned.copy_(output, non_blocking=True)

    @torch.inference_mode()
    def __call__(self, bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """What ``Engine.infer`` returns."""
        # torch copies with ``_COPYING`` threads, NumPy with one.
        self._frame.copy_(torch.from_numpy(bgr))
        with torch.cuda.stream(self._stream):
            self._graph.replay()
        self._done.record(self._stream)
        self._done.synchronize()
        mask, *rest = (torch.empty_like(output, pin_memory=False).copy_(output).numpy() for output in self._outputs)
        return mask, rest[0] if rest else None


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
