"""The month: peak, bill, what would have been without us."""
