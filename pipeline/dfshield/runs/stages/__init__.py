"""The stages of the pipeline: a specification each, one file each, all of them in `registry`."""
