"""The loop of learning, whole, on one machine: `make learn`."""
