"""What `seg_node tune` found for a node: the file, whether it fits a machine, and whether it still holds."""
