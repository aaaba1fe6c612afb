"""Made-up drives with exact masks: streets in perspective through which a camera moves.

The world is a flat street that bends gently. A point is given by (s, u, h): metres along the street, to the right of
its middle, and above it. Everything is drawn far to near as polygons, textured walls and cut-out sprites, into the
picture and the mask at once. What stands where is drawn from random generators seeded by (seed, place), so a frame is
a pure function of (seed, index) and a drive never ends.
"""

from seg_training.datasets.synthetic.drive import SyntheticDrive, SyntheticScenes
from seg_training.datasets.synthetic.weather import LIGHTS, WEATHERS

__all__ = ["LIGHTS", "WEATHERS", "SyntheticDrive", "SyntheticScenes"]
