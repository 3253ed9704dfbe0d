"""Train networks: one loop over epochs, with optimizers, schedules, callbacks and checkpoints."""
