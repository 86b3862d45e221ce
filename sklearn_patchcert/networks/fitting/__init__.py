"""How networks are fitted: batches, schedules, and images disturbed before they become tokens."""
