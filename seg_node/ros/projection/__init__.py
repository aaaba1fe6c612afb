"""The projection node: clouds and grids of masks."""
