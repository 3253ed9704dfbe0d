"""How weights move: one loop over epochs, with optimizers, schedules, callbacks and checkpoints."""
