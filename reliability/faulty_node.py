"""The segmentation node with a runtime below its engine that obeys the orders in the frames.

    python reliability/faulty_node.py --ros-args -p engine:=onnxruntime -p model:=BUNDLE

Everything above ONNX Runtime's session is the product as it is. While the file that the variable FAULTY_HOLD names
exists, no session is made: a library that compiles for long.
"""

import os
import sys
import time
from pathlib import Path

from seg_node.core.memory import keep_memory_steady

# As in the product, before what starts threads is imported.
keep_memory_steady()

import numpy as np  # noqa: E402
from orders import NAP_S, Order  # noqa: E402

from seg_node.core.engines import onnxruntime_engine  # noqa: E402
from seg_node.ros.segmentation_node import main  # noqa: E402


class ObedientSession(onnxruntime_engine.onnxruntime.InferenceSession):
    """See ``Order``. NAN needs nothing of it: the bundles' graph does that."""

    _gone = False

    def __init__(self, *arguments, **options):
        hold = os.environ.get("FAULTY_HOLD")
        while hold and Path(hold).exists():
            time.sleep(0.01)
        super().__init__(*arguments, **options)

    def run(self, names, inputs, options=None):
        """Run the graph, and spoil what comes out as ordered."""
        order = inputs["frame"][0, 0, 0]
        self._gone |= bool(order == Order.VANISH)
        if self._gone:
            raise RuntimeError("the device is gone")
        if order == Order.RAISE:
            raise RuntimeError("an error as ordered")
        if order == Order.MEMORY:
            raise MemoryError
        if order == Order.NAP:
            time.sleep(NAP_S)
        while order == Order.HANG:
            time.sleep(3600)
        outputs = super().run(names, inputs, options)
        if order == Order.SHAPE:
            outputs[0] = outputs[0][1:]
        elif order == Order.DTYPE:
            outputs[0] = outputs[0].astype(np.int64)
        elif order == Order.CATEGORY:
            outputs[0] = np.full_like(outputs[0], 200)
        return outputs


if __name__ == "__main__":
    onnxruntime_engine.onnxruntime.InferenceSession = ObedientSession
    sys.exit(main())
