"""This is where we say what is said to Redis: steps that ask, scripts that answer, and the life of one flight."""
