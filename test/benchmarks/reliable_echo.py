"""The echo node of the replay harness with a reliable subscription to the camera."""

import sys

from seg_node.replay import echo

if __name__ == "__main__":
    echo._CAMERA_QOS = echo._QOS
    sys.exit(echo.main(sys.argv[1:]))
