"""What is written down each cycle, and told to a scrape."""
