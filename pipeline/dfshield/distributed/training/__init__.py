"""The training as an elastic group of workers."""
