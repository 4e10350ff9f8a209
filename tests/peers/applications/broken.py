"""Cannot be imported."""

SHELVES = {"fiction": 3}
application = SHELVES["poetry"]
