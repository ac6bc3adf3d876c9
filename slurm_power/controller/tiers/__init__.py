"""Model tiers of jobs and services, and advice to trainings."""
