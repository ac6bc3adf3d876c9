"""Who was slowed or held, and by how much."""
