"""Fuzzers of every parser of what others wrote: `make fuzz`, and in a short form a test."""
