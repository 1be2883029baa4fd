"""Files of pixels: images, masks and palettes, how they lie in their files, which of a folder are any."""
