"""What keeps a node at work: models that are loaded beside it, attempts, and whoever watches its process."""
