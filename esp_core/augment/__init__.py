"""Differentiable augmentation: draw first, apply as often as needed."""
