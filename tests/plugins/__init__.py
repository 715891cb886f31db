"""This is where we hold the test run itself to rules: nothing left behind, nothing skipped in CI, any order."""
