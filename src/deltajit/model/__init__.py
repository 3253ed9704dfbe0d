"""What a network is: its architecture, initial weights, checked arguments, and custom records."""
