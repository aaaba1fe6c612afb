"""The mask of now: the newest inferred mask, carried to the present by optical flow.

Inference is slower than the camera, so the newest mask shows the world as it was. ``picture`` makes a small grey
picture of each camera frame, ``flow`` tells how it moved, ``propagator`` composes these motions and moves the mask, and
``worker`` does so in a thread beside the inference.
"""
