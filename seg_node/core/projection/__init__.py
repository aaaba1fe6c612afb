"""From the pixels of a mask to places in metres: camera models, depth, a cloud of points, and a grid of the ground."""
