"""Who may what: the policy in force, weights, pauses of the control, appeals, alerts."""
