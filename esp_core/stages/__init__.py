"""One module a stage of the workflow: files in, files out."""
