"""What `python -m esp_core.measure` is made of: the tasks and their order, what is done, running one within a time, what is left behind."""
