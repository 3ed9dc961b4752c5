"""Suites: the same protocol for every claim about detection, on public data, simulated fleets and a user's own."""
