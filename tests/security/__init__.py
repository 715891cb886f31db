"""This is where somebody means us harm: forged bytes, stolen messages, missing rights, and eyes on our logs."""
