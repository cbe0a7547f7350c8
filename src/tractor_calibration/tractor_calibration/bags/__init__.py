"""Recorded drives, read within bounds, and the frames that the nodes would have made of them."""
