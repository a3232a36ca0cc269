"""The trials of a sweep under Ray Tune."""
