"""What is kept between uses: sources as TFDS sets on disk, sealed by checksums; decoded images in memory."""
