"""The training loop, the engine that runs it fast, and the optimisers."""
