"""`kseg.data.check`: what would make training on a data set wrong, told with the repair."""
