"""How a run is watched: events, log, status, metrics, trackers."""
