"""This is where we check the flight protocol itself: every interleaving of a small fleet, no server, no clock."""
