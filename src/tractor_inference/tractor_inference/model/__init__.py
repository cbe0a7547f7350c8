"""The model that drives: its files and manifest, what opens it, its trial, its slot."""
