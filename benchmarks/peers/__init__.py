"""What a user would otherwise pick, on the same work: each peer in an environment of its own, below ``.peers/``."""
