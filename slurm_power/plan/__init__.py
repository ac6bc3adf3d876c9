"""From a snapshot to a plan: budgets, battery, caps, holds. Pure: the same snapshot gives the same plan."""
