"""The outer loop, its forward and backward passes in micro-batches, and condensed sets on disk."""
