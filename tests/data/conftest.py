"""Puts this folder on the path, where `data_folders` lies."""
