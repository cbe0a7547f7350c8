"""What is kept of a drive, off the control path."""
