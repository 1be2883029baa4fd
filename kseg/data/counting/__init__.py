"""Pixels per class: counted here and nowhere else, and the class weights that follow from them."""
