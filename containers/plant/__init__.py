"""The simulated plant: physics behind the protocols that real devices speak."""
