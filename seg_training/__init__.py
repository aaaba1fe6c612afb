"""Training of the networks that seg_node runs."""
