"""What a node runs with as ``seg_node tune`` found it: a file, whether it fits a machine, and whether it still holds."""
