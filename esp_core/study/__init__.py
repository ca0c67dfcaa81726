"""From a config file to jobs. Nothing here imports torch."""
