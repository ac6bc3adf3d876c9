"""Grid events: announced, followed, and their records."""
