"""The main job end to end: a real cluster, a simulated plant, a limit that must be held."""
