"""This is where we do what the README and the pages of docs/ show, and look whether they show the truth."""
