"""Several cameras before one engine: whose turn it is, where their frames wait, and the thread that works on them."""
