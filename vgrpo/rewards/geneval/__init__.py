"""Are the objects in the picture the ones that were asked for?"""
