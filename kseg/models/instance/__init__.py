"""Networks that find instances: a box, a class and a mask for each object."""
