"""The site now: its state, its plan, and what operators tell it."""
