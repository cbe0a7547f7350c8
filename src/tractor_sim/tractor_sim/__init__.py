"""A simulated rover, recorded sensors and the reference actor made with them."""
