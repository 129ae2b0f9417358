"""Peers that are Python libraries, each in a process of its own (`compare.serve`)."""
