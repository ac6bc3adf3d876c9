"""What was moved, how long it stands, and how it is given back."""
