"""This is where we wait: the drivers that carry out protocol steps, each in its own way of waiting."""
