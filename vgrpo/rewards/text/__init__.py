"""Is the text in the picture the one that was asked for?"""
