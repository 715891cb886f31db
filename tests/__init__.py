"""This is where we show what taskcache promises; read `fundamentals/` first."""
