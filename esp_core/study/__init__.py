"""From a config file to jobs. Light: nothing here imports torch."""
