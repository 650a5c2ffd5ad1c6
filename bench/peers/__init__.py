"""Other people's order books, each run the way its authors run it."""
