"""What every node of the suite is made of."""
