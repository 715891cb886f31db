"""This is where we check the files of `deploy/`: each is run, or read by the tool it is written for."""
