"""What is timed: one module per part of the package."""
