"""Who calls us: one front a file. Each turns its wire format into exchanges."""
