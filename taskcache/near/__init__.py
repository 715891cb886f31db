"""This is where a process keeps values of its own, close at hand, for as long as the server vouches for them."""
