"""What the driver of a run does in each stage; `dfshield.runs.work` is what workers do of it."""
