"""Connections to workers: which one, how many, and whether a request may be sent again."""
