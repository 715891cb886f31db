"""This is where minutes of mixed load meet kills, pauses and lost connections, and nothing may be lost, stale or left."""
