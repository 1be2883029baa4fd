"""What words of the command line mean to a semantic model."""
