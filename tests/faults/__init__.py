"""This is where faults are done to real processes: each row of the matrix of docs/faults.md is a scenario here."""
