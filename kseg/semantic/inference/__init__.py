"""Class maps of images of any size: one network, several, on tiles, patches, shifted images, proposals."""
