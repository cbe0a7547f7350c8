"""Faults of sensors, processes, requests, disk and machine, on a rover that drives: `make faults`.

Each row is a fault, what must follow, within which time. A short form is part of the tests.
"""
