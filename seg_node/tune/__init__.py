"""The best that a machine can do with a drive: which settings of the node win by the score at the moment of use."""
