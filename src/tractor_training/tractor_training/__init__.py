"""Makes actors in the simulator; torch is imported inside functions."""
