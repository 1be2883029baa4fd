"""Segments of an image: superpixels, their borders, and trees of their unions. numpy only."""
