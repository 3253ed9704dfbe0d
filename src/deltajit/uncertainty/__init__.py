"""Say how sure a trained network is."""
