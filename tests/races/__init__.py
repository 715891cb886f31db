"""This is where races have their tests: one file for each that went wrong, and an explorer that looks for the next."""
