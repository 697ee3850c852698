"""Training: tasks, state, updates, optimizers, the loop, its feed and duration, validation, and cost."""
