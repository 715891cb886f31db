"""This is where the shape of the code is held: its floors, walls, sizes, names and layout."""
