"""This is where one call is answered: looked up, waited for, or computed."""
