"""Files of pixels: images, masks and their palettes, how they lie in their files, which of a folder are any."""
