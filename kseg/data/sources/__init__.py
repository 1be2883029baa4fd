"""What `kseg.data.open` opens: the surface of a source, the table of formats, and one file per format."""
