"""Other systems on the same work, for comparison: each peer in an environment of its own, below ``.peers/``."""
