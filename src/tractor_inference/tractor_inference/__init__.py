"""Observation, policy and nodes that drive the rover."""
