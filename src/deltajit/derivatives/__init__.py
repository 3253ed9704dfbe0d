"""Take derivatives of a network in many directions, or at many points."""
