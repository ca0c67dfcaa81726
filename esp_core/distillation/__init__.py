"""The loop that condenses, its walk over images, and condensed sets on disk."""
