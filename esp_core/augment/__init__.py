"""Differentiable augmentation: random draws are made first and can then be applied repeatedly."""
