"""A compressed document for people to look at: in a terminal, or as a page."""
